from html.parser import HTMLParser

import pytest

from coat.errors import CoatError
from coat.reports.page import Section, Table, write_report


class Links(HTMLParser):
    def __init__(self):
        super().__init__()
        self.found = []

    def handle_starttag(self, tag, attrs):
        self.found += [value for key, value in attrs if key in ("src", "href")]


def test_a_page_is_whole_by_itself_and_escapes_what_it_is_given(tmp_path):
    table = Table(["task", "a <b>"], [["x", "0.5"], ["y", "0.7"]], {(1, 1)})
    section = Section("One", "text & more", table, [("data:image/png;base64,AAAA", "a figure")], code="a: <1>")
    write_report(tmp_path / "r.html", "Title", "lead", [section])
    page = (tmp_path / "r.html").read_text()
    assert "a &lt;b&gt;" in page
    assert "a: &lt;1&gt;" in page
    assert '<td class="best">0.7</td>' in page
    links = Links()
    links.feed(page)
    assert links.found == ["data:image/png;base64,AAAA"]


def test_words_are_set_left_and_numbers_right(tmp_path):
    table = Table(["clip", "answer", "score"], [["a", "A flute.", "0.5"], ["b", "", "nan"]])
    assert [table.is_text(column) for column in range(3)] == [True, True, False]
    write_report(tmp_path / "r.html", "Title", "lead", [Section("One", table=table)])
    page = (tmp_path / "r.html").read_text()
    assert '<td class=" words">A flute.</td><td class="">0.5</td>' in page
    assert '<th class="words">answer</th><th>score</th>' in page


def test_pages_are_put_together_as_html_and_as_markdown(tmp_path):
    from coat.reports.page import Player, Table, markdown, read_page, write_markdown, write_report, write_together
    from coat.reports.plots import encode, plt

    figure, axes = plt.subplots()
    axes.plot([1, 2])
    table = Table(["task", "a", "b"], [["mood", "0.1", "0.2"]], {(0, 2)})
    sections = [
        Section("Scores", "Of a hundred.", table, [(encode(figure), "A line.")]),
        Section("Sounds", players=[Player("data:audio/ogg;base64,AA==", "a clip", "said: x")], code="x: 1"),
    ]
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        write_report(tmp_path / name / "x.html", f"Page {name}", "Lead.", sections)
    page = read_page(tmp_path / "one")
    assert page.sections == sections
    write_together(tmp_path / "all.html", "All", "Everything.", [page, read_page(tmp_path / "two" / "x.html")])
    text = (tmp_path / "all.html").read_text()
    assert text.count("<h1") == 3
    assert text.count("data:image/png") == 2
    (tmp_path / "docs").mkdir()
    write_markdown(tmp_path / "docs" / "all.md", "All", "", [page])
    said = (tmp_path / "docs" / "all.md").read_text()
    assert markdown(table) in said
    assert "| mood | 0.1 | **0.2** |" in said
    assert (tmp_path / "docs" / "images" / "page-one-scores-1.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(CoatError, match="no page of coat's"):
        read_page(tmp_path)
