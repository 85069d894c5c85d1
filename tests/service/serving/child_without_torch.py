"""A child like the real one that starts in a fraction of its time."""

import sys
from multiprocessing.connection import Connection

from maze_core.agent import load_agent
from service.serving.child import serve

if __name__ == "__main__":
    serve(Connection(int(sys.argv[1])), load_agent)
