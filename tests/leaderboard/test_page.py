"""The page in a real browser: sorting, switching, unfolding, filtering, the keyboard, a phone, hostile names."""

import pytest

from leaderboard import page
from leaderboard.board import boards
from leaderboard.record import Record
from tests.browser import CHROMIUM, FLAGS, SCREENSHOTS
from tests.recorded import make_record

HOSTILE = '<img src=x onerror="document.title=1"></script><script>document.title=2</script>&amp;'
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium (Debian: apt-get install chromium)")


@pytest.fixture(scope="module")
def text(tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("runs")
    records = [
        make_record(root, tiny, "model", seed=1, skill=0.5, reported="MiniOneRec"),
        make_record(root, tiny, "model", seed=2, skill=0.5, reported="MiniOneRec"),
        make_record(root, tiny, "hybrid", group="floor", stages=("hybrid",), skill=0.3),
        make_record(root, tiny, "sasrec", group="traditional", stages=("sasrec",), skill=0.2),
        make_record(root, tiny, "evil", stages=("x",), skill=0.1, summary=HOSTILE, label=HOSTILE),
    ]
    ground = {"dataset": {"name": "made", "version": 1}, "split": {"name": "made", "version": 1},
              "protocol": {"name": "next-item", "version": 2, "seen": "keep"}}  # fmt: skip
    newer = {"ground": ground, "versions": {"python": "3", "torch": "2.13.0", "transformers": "5.0"}}
    records[:2] = [Record(r.content | newer, r.place) for r in records[:2]]
    industrial = [Record(r.content | {"category": "Industrial_and_Scientific"}, r.place) for r in records[:4]]
    return page.html(boards([*records, *industrial], ["sid", "item"]))


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def opened(browser, text, tmp_path):
    """The page, opened; it must load nothing else and throw nothing."""
    file = tmp_path / "board.html"
    file.write_text(text, encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    wrong, asked = [], []
    tab.on("pageerror", lambda error: wrong.append(str(error)))
    tab.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    tab.on("request", lambda request: asked.append(request.url))
    tab.goto(file.as_uri())
    yield tab
    assert wrong == []
    assert [url for url in asked if not url.startswith(("data:", file.as_uri()))] == []
    tab.close()


def names(tab):
    return tab.locator("#rows > tr:not(.detail) .unfold").all_inner_texts()


def column(tab, title):
    place = tab.locator("#head th button").all_inner_texts().index(title)
    return [cells[place] for cells in tab.evaluate(
        "[...document.querySelectorAll('#rows > tr:not(.detail)')].map((row) => [...row.cells].map((c) => c.innerText))"
    )]  # fmt: skip


def select(tab, category):
    tab.get_by_role("tab", name=category).click()


def test_the_file_is_self_contained(text):
    for word in ('src="http', 'href="http', "@import", "url("):
        assert word not in text
    assert "<img src=x" not in text.split('id="data">')[1].split("</script>")[0]
    assert text.count("</script>") == 2
    assert HOSTILE not in text


@needs_browser
def test_rows_sort_by_any_column_both_ways(opened):
    select(opened, "Synthetic")
    assert names(opened)[0] == "model"  # NDCG@10, best first
    for title, text_column in (("HR@10", False), ("Method", True), ("Train", False)):
        opened.get_by_role("columnheader", name=title, exact=True).get_by_role("button").click()
        head = opened.locator("#head th").filter(has_text=title).first
        first = column(opened, title)
        assert head.get_attribute("aria-sort") == ("ascending" if text_column else "descending")
        opened.get_by_role("columnheader", name=title, exact=True).get_by_role("button").click()
        assert head.get_attribute("aria-sort") == ("descending" if text_column else "ascending")
        if title == "HR@10":
            values = [float(cell.split()[0]) for cell in first]
            assert values == sorted(values, reverse=True) and len(set(values)) > 2
            assert column(opened, title) == first[::-1]


@needs_browser
def test_the_protocol_switch_changes_the_numbers_and_the_caption(opened):
    select(opened, "Synthetic")
    sid = column(opened, "HR@1")
    assert "SID protocol" in opened.locator("#notes").inner_text()
    opened.get_by_label("Item").check()
    assert column(opened, "HR@1") != sid
    assert "item protocol" in opened.locator("#notes").inner_text()
    assert "Item protocol" in opened.locator("#count").inner_text()


@needs_browser
def test_categories_are_tabs_for_mouse_and_arrow_keys(opened):
    assert opened.get_by_role("tab").all_inner_texts() == ["Industrial_and_Scientific", "Synthetic"]
    opened.get_by_role("tab", name="Industrial_and_Scientific").focus()
    opened.keyboard.press("ArrowRight")
    assert opened.get_by_role("tab", name="Synthetic").get_attribute("aria-selected") == "true"
    assert len(names(opened)) == 4
    opened.keyboard.press("ArrowLeft")
    assert len(names(opened)) == 3


@needs_browser
def test_columns_of_effort_and_versions_are_switched_on_sorted_by_and_brought_back(opened):
    select(opened, "Synthetic")
    before = opened.locator("#head th").all_inner_texts()
    assert "Trials" not in before and "Code" not in before
    opened.get_by_label("Effort").focus()
    opened.keyboard.press("Space")
    opened.get_by_role("button", name="model", exact=True).click()
    opened.get_by_label("Versions").check()
    assert opened.get_by_role("button", name="model", exact=True).get_attribute("aria-expanded") == "true"
    opened.get_by_role("button", name="model", exact=True).click()
    head = opened.locator("#head th").all_inner_texts()
    assert head[: len(before)] == before
    assert head[len(before) :] == ["Settings", "Trials", "Tuned on this data", "Steps", "Best step / last",
                                   "Dataset", "Split", "Protocol", "Code", "PyTorch", "Transformers"]  # fmt: skip
    assert column(opened, "Protocol") == ["next-item 2", "—", "—", "—"]  # older records say nothing of it
    for title, known in (("PyTorch", "2.13.0"), ("Trials", None), ("Steps", None)):
        button = opened.get_by_role("columnheader", name=title, exact=True).get_by_role("button")
        for _ in range(2):
            button.click()
            told = column(opened, title)
            assert "—" not in told[: len(told) - told.count("—")]  # what is not known comes last, both ways
        assert known in (None, told[0])
    opened.reload()  # the address has it
    assert opened.locator("#head th").all_inner_texts() == head
    opened.get_by_label("Effort").uncheck()
    opened.get_by_label("Versions").uncheck()
    assert opened.locator("#head th").all_inner_texts() == before


@needs_browser
def test_a_row_unfolds_to_settings_seeds_and_levels_by_keyboard(opened):
    select(opened, "Synthetic")
    button = opened.get_by_role("button", name="model", exact=True)
    button.focus()
    opened.keyboard.press("Enter")
    assert button.get_attribute("aria-expanded") == "true"
    shown = opened.locator(".detail").inner_text()
    for words in ("Cumulative level accuracy, grpo", "Independent hit rate, sft", "L1+L2", "Settings: decoder", "beams",
                  "model-sft", "Segments, SID protocol", "code abc123", "target in history"):  # fmt: skip
        assert words in shown, words
    assert [row.split("\t")[0] for row in shown.splitlines() if row.startswith(("1\t0.", "2\t0."))][:2] == ["1", "2"]
    opened.keyboard.press("Enter")
    assert opened.locator(".detail").count() == 0


@needs_browser
def test_a_long_table_is_sorted_whole_and_shown_as_it_is_scrolled_to(browser, tiny, tmp_path):
    base = make_record(tmp_path / "runs", tiny, stages=("x",))
    many = []
    for number in range(150):
        stage = {**base.stages["x"], "sid": base.metrics("sid") | {"HR@50": number / 150}}
        many.append(Record(base.content | {"label": f"m{number:03d}", "stages": {"x": stage}}, base.place))
    file = tmp_path / "board.html"
    file.write_text(page.html(boards(many, ["sid"]), draw=False), encoding="utf-8")
    tab = browser.new_page(viewport={"width": 1400, "height": 900})
    tab.goto(file.as_uri())
    tab.get_by_role("columnheader", name="HR@50", exact=True).get_by_role("button").click()
    shown = names(tab)
    assert 50 < len(shown) < 150 and shown[:3] == ["m149", "m148", "m147"]
    assert "150 of 150 rows" in tab.locator("#count").inner_text()
    tab.locator("#more").dispatch_event("click")  # a mouse would scroll to it, which shows more rows by itself
    assert names(tab) == [f"m{number:03d}" for number in reversed(range(150))]
    assert tab.locator("#more").is_hidden()
    tab.close()


@needs_browser
def test_filter_and_groups_narrow_the_table(opened):
    select(opened, "Industrial_and_Scientific")
    measured = len(names(opened))
    opened.get_by_label("Reported elsewhere").check()
    assert len(names(opened)) > measured + 15
    opened.get_by_label("Filter").fill("replication-zlhe0 rl")
    assert names(opened) == ["MiniOneRec RL (2 epochs)"]
    opened.get_by_label("Filter").fill("d3")
    opened.get_by_role("button", name="D3").click()
    assert "Cannot be true as printed: NDCG falls with K" in opened.locator(".detail").inner_text()
    opened.get_by_label("Filter").fill("no such row")
    assert "0 of" in opened.locator("#count").inner_text()


@needs_browser
def test_a_hostile_name_stays_text(opened):
    select(opened, "Synthetic")
    assert HOSTILE in names(opened)
    opened.locator(".unfold").filter(has_text="onerror").click()
    assert HOSTILE in opened.locator(".detail").inner_text()
    assert opened.title() == "Leaderboard"
    assert opened.locator("img[src=x]").count() == 0 and opened.locator("script").count() == 2


@needs_browser
def test_figures_are_there_and_have_descriptions(opened):
    select(opened, "Synthetic")
    pictures = opened.locator("#figures img")
    assert pictures.count() >= 4
    for number in range(pictures.count()):
        pictures.nth(number).scroll_into_view_if_needed()
        assert pictures.nth(number).get_attribute("alt")
    opened.wait_for_function(
        "[...document.querySelectorAll('#figures img')].every((i) => i.complete && i.naturalWidth)"
    )


@needs_browser
def test_a_phone_gets_a_table_that_scrolls_inside_the_page(browser, text, tmp_path):
    file = tmp_path / "board.html"
    file.write_text(text, encoding="utf-8")
    phone = browser.new_page(viewport={"width": 390, "height": 844}, has_touch=True)
    phone.goto(file.as_uri())
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    phone.locator(".unfold").first.tap()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    phone.screenshot(path=SCREENSHOTS / "phone.png")
    phone.close()


@needs_browser
def test_an_address_brings_its_view_back_and_a_screenshot_is_kept(opened):
    select(opened, "Synthetic")
    opened.get_by_label("Item").check()
    opened.get_by_role("columnheader", name="HR@50").get_by_role("button").click()
    shown = names(opened)
    opened.reload()
    assert names(opened) == shown
    assert opened.get_by_role("tab", name="Synthetic").get_attribute("aria-selected") == "true"
    assert opened.locator("[aria-sort=descending]").inner_text().startswith("HR@50")
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=SCREENSHOTS / "leaderboard.png", full_page=True)
    assert (SCREENSHOTS / "leaderboard.png").stat().st_size > 50_000


@needs_browser
def test_two_rows_are_compared_in_place_and_the_difference_is_that_of_the_rows(opened):
    picks = opened.locator("#pair select")
    assert picks.count() == 2
    picks.nth(0).select_option(label="hybrid")
    picks.nth(1).select_option(label="model")
    cells = [row.locator("td").all_inner_texts() for row in opened.locator("#compared > table tbody tr").all()]
    metrics = {row[0]: row[1:] for row in cells}
    first, second, difference, said = metrics["NDCG@10"]
    value = float(difference.replace("−", "-"))
    assert value == pytest.approx(float(first) - float(second), abs=2e-4)
    low, high = (float(part.replace("−", "-")) for part in said.split(",")[0].split(" to "))
    assert low < value < high
    picks.nth(0).select_option(label="model")
    picks.nth(1).select_option(label="hybrid")
    other = opened.locator("#compared > table tbody tr").nth(4).locator("td").all_inner_texts()
    assert float(other[3].replace("−", "-")) == pytest.approx(-value)
    opened.locator("#compared summary").click()
    assert opened.locator("#compared details td").count() > 6
