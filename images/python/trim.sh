#!/bin/sh
# Leaves out of a copied standard library what needs a screen, a network installer or a tester, and
# compiles the rest.
#
# Usage: trim.sh LIBRARY_FOLDER
set -eu

lib=$1
cd "$lib"

rm -rf test idlelib tkinter turtledemo turtle.py lib2to3 ensurepip venv \
    pydoc_data curses EXTERNALLY-MANAGED sitecustomize.py config-3.*
cd lib-dynload
rm -f _test*.so _xx*.so xx*.so _ctypes_test*.so _curses*.so _dbm*.so readline*.so
cd ..

# The root is read-only at run time and a copy does not always keep times: code that is valid
# without a look at its source starts at once, everywhere.
find . -name __pycache__ -type d -prune -exec rm -rf {} +
python3.13 -m compileall -q -j 0 --invalidation-mode unchecked-hash .
