"""The vehicle's program, and in the role of worker the cloud's: orders in, reports out."""
