"""Writes the Postman collection of the service's routes; a running service has the same at ``/docs/postman.json``.

python -m tools.collection        dist/maze.postman_collection.json
"""

import json
from pathlib import Path

from service.api.postman import collection
from tools.reference import document

FILE = Path(__file__).resolve().parents[1] / "dist" / "maze.postman_collection.json"


def main() -> None:
    """Write it, for a service on this machine."""
    FILE.parent.mkdir(exist_ok=True)
    text = json.dumps(collection(document(), "http://127.0.0.1:8000"), indent=1, ensure_ascii=False)
    FILE.write_text(text + "\n", encoding="utf-8")
    print(FILE)


if __name__ == "__main__":
    main()
