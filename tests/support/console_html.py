"""Pages of the console, read strictly."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import ClassVar

from tests.support.console_runs import Visitor


class Checked(HTMLParser):
    """A page, read strictly: every element is closed, ids are unique, nothing runs or is styled in the page itself."""

    VOID: ClassVar = {"meta", "link", "input", "img", "br"}

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.faults: list[str] = []
        self.ids: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        self.faults += [f"<{tag}> is not closed" for tag in self.open]
        self.faults += [f"id {one} twice" for one in set(self.ids) if self.ids.count(one) > 1]
        targets = {attributes["href"][1:] for _, attributes in self.tags if attributes.get("href", "").startswith("#")}
        named = {attributes[name] for _, attributes in self.tags for name in ("aria-labelledby",) if name in attributes}
        self.faults += [f"no element {one}" for one in (targets | named) - set(self.ids)]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = {name: value or "" for name, value in attrs}
        self.tags.append((tag, attributes))
        if tag not in self.VOID:
            self.open.append(tag)
        if len(attributes) != len(attrs):
            self.faults.append(f"<{tag}> has an attribute twice")
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag == "style" or "style" in attributes or any(name.startswith("on") for name in attributes):
            self.faults.append(f"<{tag} {attributes}> has style or script in it")
        if tag == "script" and not attributes.get("src", "").startswith("/static/"):
            self.faults.append("a script in the page")
        for name in ("href", "src", "action", "hx-get", "sse-connect"):
            if not attributes.get(name, "/").startswith(("/", "#")) or attributes.get(name, "").startswith("//"):
                self.faults.append(f"{name}={attributes[name]!r} leads elsewhere")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> closes nothing of its own")

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.faults.append("a script in the page")
        self.text += data

    def every(self, tag: str) -> list[dict[str, str]]:
        """The attributes of all elements of a kind."""
        return [attributes for found, attributes in self.tags if found == tag]


def checked(text: str) -> Checked:
    page = Checked(text)
    assert page.faults == []
    assert len(page.every("h1")) == 1
    assert len(page.every("caption")) == len(page.every("table"))
    assert all(heading.get("scope") in ("col", "row") for heading in page.every("th"))
    regions = [one for one in page.every("div") if one.get("role") == "region"]
    assert all(one.get("tabindex") == "0" and one.get("aria-label") for one in regions)
    assert all(one.get("alt") is not None for one in page.every("img"))
    return page


def seen(visitor: Visitor, path: str, status: int = 200) -> Checked:
    answer = visitor.get(path)
    assert answer.status_code == status, answer.text[:2000]
    return checked(answer.text)
