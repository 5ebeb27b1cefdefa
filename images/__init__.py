"""Container images, built where they are needed and named by what they are made from."""
