"""The cloud: turns assignments into orders, and reports into results."""
