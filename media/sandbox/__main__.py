"""`python -m media.sandbox FD MODULE...`: the fork server, see `_forkserver`. Not for people."""

import socket
import sys

from media.sandbox._forkserver import main

if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), sys.argv[2:])
