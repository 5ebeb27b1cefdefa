"""Libraries of an analyst's own: resolved, locked, made an image, and pulled by vehicles."""
