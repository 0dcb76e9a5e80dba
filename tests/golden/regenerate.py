"""Write the golden traces anew: `python -m tests.golden.regenerate`. Say in the commit why they changed."""

from __future__ import annotations

import json


def main() -> None:
    from tests.golden.traces import FOLDER, TRACES

    for name, make in TRACES.items():
        path = FOLDER / name
        path.write_text(json.dumps(make(), indent=1) + "\n", encoding="utf-8")
        print(path)


if __name__ == "__main__":
    main()
