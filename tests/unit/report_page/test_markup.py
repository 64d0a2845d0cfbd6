"""Text becomes HTML without becoming markup."""

from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from batchscore.report_page.markup import document, element, section, table


class Read(HTMLParser):
    """Reads a page back: its tags, attributes and texts."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts += data


# A carriage return is a line break to a parser of HTML.
TEXTS = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=40)


@given(TEXTS, TEXTS)
def test_any_text_comes_back_as_text(content, attribute):
    """Whatever a server says: one element with that text, one attribute with that value."""
    read = Read()
    read.feed(element("p", content, title=attribute))
    read.close()
    assert read.tags == [("p", {"title": attribute})]
    assert read.texts == content


def test_markup_inside_markup_is_escaped_once():
    """Parts that are HTML already stay so, and texts beside them do not become it."""
    inner = element("b", "a<b")
    assert element("p", inner, "&") == "<p><b>a&lt;b</b>&amp;</p>"
    assert table(["<"], [["<", 3]], numbers=[1]).count("&lt;") == 2


def test_parts_without_content_leave_no_heading_behind():
    """A section of nothing is nothing, as is a table of no rows."""
    assert section("Errors", table(["a"], []), id_="errors") == ""


def test_the_title_of_a_page_is_text():
    """A file's name with brackets does not end the title."""
    assert "<title>&lt;/title&gt;.arrow</title>" in document("</title>.arrow", "x")
