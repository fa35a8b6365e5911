"""The report opened from disk in headless Chromium: sorting, opening a cell, phone width, dark
mode, no console errors.

Screenshots go to build/screenshots for a look.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from synthetic import write_grid, write_run

from sns.analysis.cells import load_results as load
from sns.analysis.report import page as report

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed: pip install -e .[dev]")
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None or DRIVER is None, reason="Chromium is absent: make test-browser installs it"),
]
SHOTS = Path(__file__).resolve().parents[2] / "build" / "screenshots"
SETTINGS = ("vgg_cifar10", "densenet40_cifar100")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--hide-scrollbars",
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def shifted(setting: str, method: str, regime: str, seed: int) -> dict[str, float]:
    """Accuracies around the paper's for vanilla and spectral, so that cells have a colour and bands
    a width."""
    shift = {"vanilla": -0.03, "spectral": 0.02}.get(method, 0.0)
    return {"test_accuracy": (0.9 if setting == "vgg_cifar10" else 0.7) + shift + 0.004 * seed, "skew": 3 + shift * 50}


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The report of two settings with three seeds, a hole and a diverged run whose reason holds
    markup."""
    root = tmp_path_factory.mktemp("report")
    folder = root / "results" / "runs" / "demo"
    write_grid(folder, SETTINGS, seeds=range(3), epochs=12, realistic=True, effect=shifted)
    for directory in folder.glob("vgg_cifar10__decay__b4096__*"):
        shutil.rmtree(directory)
    reason = "</script><script>document.title='broken'</script>"
    write_run(folder, "vgg_cifar10", "adversarial", "large", 2, epochs=12, status="diverged", reason=reason)
    path = root / "report.html"
    report.write(load(folder), "demo <b>one</b>", path)
    return path


@pytest.fixture(scope="module")
def browser() -> Iterator["webdriver.Chrome"]:
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in FLAGS:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(executable_path=DRIVER))
    yield driver
    driver.quit()


def open_page(
    browser: "webdriver.Chrome", page: Path, width: int = 1280, height: int = 900, scheme: str = "light"
) -> None:
    """Opens the page at this size and colour scheme, drops what was logged before, and waits for
    nothing to load."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [
        {"name": "prefers-color-scheme", "value": scheme},
        {"name": "prefers-reduced-motion", "value": "reduce"},
    ]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    browser.get_log("browser")
    browser.get(page.as_uri())


def draw_all(browser: "webdriver.Chrome") -> None:
    """Draws every plot, on screen or not, and waits for it."""
    browser.execute_script("document.querySelectorAll('.panels .plot').forEach(plot => plot.start());")
    wait_for(browser, "return [...document.querySelectorAll('.panels .plot')].every(p => p.querySelector('.main-svg'))")


def wait_for(browser: "webdriver.Chrome", script: str) -> None:
    WebDriverWait(browser, 30).until(lambda driver: driver.execute_script(script))


def shoot(browser: "webdriver.Chrome", name: str, whole: bool = True) -> None:
    """Keeps a screenshot, of the whole page or of what is on screen."""
    SHOTS.mkdir(parents=True, exist_ok=True)
    if whole:
        width, height = browser.execute_script("return [innerWidth, document.documentElement.scrollHeight]")
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.save_screenshot(str(SHOTS / f"{name}.png"))


def column(browser: "webdriver.Chrome", number: int) -> list[str]:
    script = "return [...document.querySelectorAll('#results tbody tr')].map(r => r.cells[arguments[0]].dataset.sort)"
    return browser.execute_script(script, number)


def errors(browser: "webdriver.Chrome") -> list[str]:
    return [entry["message"] for entry in browser.get_log("browser")]


def test_every_plot_is_drawn_without_a_console_message(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    draw_all(browser)
    shoot(browser, "light")
    titles = browser.execute_script("return [...document.querySelectorAll('.panels h4')].map(e => e.textContent)")
    assert len(titles) == 2 + 2 + 5 + 2 + 1 + 2 + 5  # summary; figures 1 to 4 and 5 and 6 with one setting each
    lines = browser.execute_script("return document.querySelectorAll('#fig1 .plot .scatterlayer .trace').length")
    assert lines == 2 * 4 * 3 * 2  # regimes, methods, curves; a line and a band each
    assert browser.find_elements(By.CSS_SELECTOR, "figure .note") == []
    assert errors(browser) == []


def test_nothing_is_fetched(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    draw_all(browser)
    assert browser.execute_script("return performance.getEntriesByType('resource').map(e => e.name)") == []


def test_a_column_sorts_by_value_with_empty_cells_last(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    decay = 4  # model, B, alpha, vanilla, decay
    head = browser.find_elements(By.CSS_SELECTOR, "#results th[aria-sort]")[decay]
    before = column(browser, decay)
    values = sorted(float(value) for value in before if value)
    assert "" in before
    for direction, expected in (("ascending", values), ("descending", values[::-1])):
        head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
        assert head.get_attribute("aria-sort") == direction
        shown = column(browser, decay)
        assert [float(value) for value in shown if value] == expected
        assert shown.index("") == len(values)
    head.find_element(By.TAG_NAME, "button").click()
    assert head.get_attribute("aria-sort") == "none"
    assert column(browser, decay) == before


def test_a_cell_opens_by_keyboard_and_closes_by_escape(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    cell = browser.find_element(By.CSS_SELECTOR, "button.cell[data-cell='vgg_cifar10 spectral small']")
    cell.send_keys(Keys.ENTER)
    dialog = browser.find_element(By.ID, "runs")
    wait_for(browser, "return document.querySelector('#runs .main-svg') !== null")
    assert dialog.get_attribute("open") is not None
    assert "VGGNet, CIFAR-10, spectral, B=64" in dialog.text
    tables = dialog.find_elements(By.TAG_NAME, "table")
    rows = [
        [
            [cell.text for cell in row.find_elements(By.CSS_SELECTOR, "th, td")]
            for row in t.find_elements(By.TAG_NAME, "tr")
        ]
        for t in tables
    ]
    assert [len(table) - 1 for table in rows] == [3, 3, 3, 6]
    assert rows[1][1] == ["0", "12", "120", "1", "2.5"]
    assert rows[2][1] == ["0", "60 s", "5.0 s", "1000", "1", "2.00 GB", "1.00 GB", "1"]
    assert rows[3][0] == ["seed", "images", "5%", "25%", "50%", "75%", "95%", "largest"]
    shown = browser.execute_script("return document.getElementById('runs').textContent")
    assert "method=spectral seed=1" in shown
    assert not [word for word in ("undefined", "NaN", "null,") if word in dialog.text]
    assert "name: spectral" in shown
    shoot(browser, "cell", whole=False)
    browser.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert dialog.get_attribute("open") is None
    assert browser.switch_to.active_element == cell
    assert errors(browser) == []


def test_a_diverged_run_says_why_and_its_text_stays_text(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    assert browser.title == "Spectral norm regularization: demo <b>one</b>"
    browser.find_element(By.CSS_SELECTOR, "button.cell[data-cell='vgg_cifar10 adversarial large']").click()
    assert "</script><script>document.title='broken'</script>" in browser.find_element(By.ID, "runs").text
    assert "</script><script>document.title='broken'</script>" in browser.find_element(By.ID, "missing").text
    assert "not run: decay" in browser.find_element(By.ID, "missing").text


def test_a_method_can_be_hidden_and_another_layer_chosen(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page)
    draw_all(browser)
    button = browser.find_element(By.CSS_SELECTOR, "#fig1 button.method[data-method='decay']")
    count = "return document.querySelectorAll('#fig1 .plot .scatterlayer .trace').length"
    every = browser.execute_script(count)
    button.send_keys(Keys.SPACE)
    assert button.get_attribute("aria-pressed") == "false"
    wait_for(browser, f"{count} == {every * 3 // 4}")
    select = browser.find_element(By.CSS_SELECTOR, "#fig4 select")
    before = browser.find_element(By.CSS_SELECTOR, "#fig4 h4").text
    select.send_keys(Keys.END)
    wait_for(browser, "return document.querySelector('#fig4 .main-svg') !== null")
    assert browser.find_element(By.CSS_SELECTOR, "#fig4 h4").text == "classifier.weight" != before
    assert errors(browser) == []


def test_dark_mode_reaches_the_plots(browser: "webdriver.Chrome", page: Path) -> None:
    def colours() -> tuple[str, str, str]:
        browser.execute_script("document.querySelector('#fig1 .plot').start()")
        wait_for(browser, "return document.querySelector('#fig1 .plot .trace path.js-line') !== null")
        script = """const style = e => getComputedStyle(e);
        const plot = document.querySelector('#fig1 .plot');
        return [style(document.body).backgroundColor, plot.querySelector('.main-svg').style.background,
                plot.querySelector('.trace path.js-line').style.stroke]"""
        return tuple(browser.execute_script(script))

    open_page(browser, page, scheme="light")
    light = colours()
    open_page(browser, page, scheme="dark")
    dark = colours()
    draw_all(browser)
    shoot(browser, "dark")
    assert light == ("rgb(255, 255, 255)", "rgb(255, 255, 255)", "rgb(0, 0, 0)")
    assert dark == ("rgb(21, 23, 26)", "rgb(21, 23, 26)", "rgb(230, 230, 230)")
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]}
    )
    wait_for(browser, "return document.querySelector('#fig1 .plot .main-svg').style.background == 'rgb(255, 255, 255)'")


def test_the_first_screen_shows_the_finding_and_the_table_fits(browser: "webdriver.Chrome", page: Path) -> None:
    open_page(browser, page, 1280, 800)
    wait_for(browser, "return document.querySelectorAll('#figsummary .main-svg').length > 1")
    shoot(browser, "first_screen", whole=False)
    bottom = "return document.querySelector('#figsummary .panels').getBoundingClientRect().bottom"
    assert browser.execute_script(bottom) <= 800
    assert "spectral +5.0 points (higher in 4 of 4 cells)" in browser.find_element(By.ID, "finding").text
    table = "const box = document.querySelector('#table1 .scroll'); return [box.scrollWidth, box.clientWidth]"
    needed, given = browser.execute_script(table)
    assert 0 < needed <= given


@pytest.mark.parametrize("width", [320, 390])
def test_a_phone_never_scrolls_sideways(browser: "webdriver.Chrome", page: Path, width: int) -> None:
    open_page(browser, page, width, 844)
    draw_all(browser)
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert browser.execute_script("return document.documentElement.scrollWidth") == width
    browser.execute_script("document.querySelectorAll('details').forEach(d => d.open = false)")
    shoot(browser, f"phone{width}")
    browser.find_element(By.CSS_SELECTOR, "button.cell").click()
    wait_for(browser, "return document.querySelector('#runs .main-svg') !== null")
    assert browser.execute_script("const d = document.getElementById('runs'); return d.scrollWidth <= d.clientWidth")
    assert errors(browser) == []
