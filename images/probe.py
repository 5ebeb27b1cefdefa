"""Asks a program of ours, from inside its container, how it is; the exit status is 0 if it is well.

Usage: python3 -I -S probe [PORT [PATH]]
"""

import socket
import sys

port = int(sys.argv[1]) if len(sys.argv) > 1 else 9464
path = sys.argv[2] if len(sys.argv) > 2 else "/health/ready"
with socket.create_connection(("127.0.0.1", port), timeout=8) as connection:
    connection.sendall(f"GET {path} HTTP/1.0\r\n\r\n".encode())
    answer = connection.makefile("rb").read(1_000_000)
head, _, body = answer.partition(b"\r\n\r\n")
sys.stdout.write(body.decode(errors="replace"))
sys.exit(0 if b" 200 " in head.partition(b"\r\n")[0] else 1)
