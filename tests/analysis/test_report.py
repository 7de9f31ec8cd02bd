from html.parser import HTMLParser

from coat.analysis.report import Section, Table, write_report


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
