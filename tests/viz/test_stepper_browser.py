"""The stepper's page in a real browser: buttons, keyboard, slider, play, light and dark, a phone; no errors.

It needs Chromium or Chrome and its driver, as in Debian's packages chromium and chromium-driver. Where they are not
installed the tests are skipped, or, with the environment variable REQUIRE_BROWSER, fail.
"""

import os
import shutil

import numpy as np
import pytest

from tinygrad_opt import Tensor, nn, viz
from tinygrad_opt.nn import functional as F

REQUIRED = bool(os.environ.get("REQUIRE_BROWSER"))
if not REQUIRED:
    pytest.importorskip("selenium", reason="selenium is not installed")
from selenium import webdriver  # noqa: E402
from selenium.webdriver.chrome.service import Service  # noqa: E402
from selenium.webdriver.common.by import By  # noqa: E402
from selenium.webdriver.common.keys import Keys  # noqa: E402
from selenium.webdriver.support.ui import WebDriverWait  # noqa: E402

FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-dev-shm-usage",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip
EVIL = '<script>alert(1)</script><img src=x onerror="alert(2)"> "\'\n é'

# For each step: how wide and high the page is, how much wider the panel than its frame, and whether a lit node is seen.
EACH_STEP = """
const [root, panel, graph] = [document.documentElement, ...["panel", "graph"].map(id => document.getElementById(id))];
const found = [];
for (;;) {
  const pane = graph.getBoundingClientRect();
  const lit = [...graph.querySelectorAll(".lit")].map(node => node.getBoundingClientRect()).some(
    box => box.left < pane.right && box.right > pane.left && box.top < pane.bottom && box.bottom > pane.top);
  found.push([root.scrollWidth, root.scrollHeight, panel.scrollWidth - panel.clientWidth, lit]);
  if (document.getElementById("forward").disabled) return found;
  document.getElementById("forward").click();
}
"""


@pytest.fixture(scope="module")
def driver(tmp_path_factory):
    browser = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
    chromedriver = shutil.which("chromedriver")
    if not (browser and chromedriver):
        reason = "there is no Chromium with chromedriver: on Debian, apt-get install chromium chromium-driver"
        (pytest.fail if REQUIRED else pytest.skip)(reason)
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for flag in [*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"]:
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(chromedriver))  # a path: nothing is downloaded
    yield driver
    driver.quit()


def emulate(driver, *, width=1280, height=720, dark=False):
    driver.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    media = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
    features = [{"name": name, "value": value} for name, value in media.items()]
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture
def page(driver, tmp_path):
    """Opens the page of a result; at the end there must be no message in the browser's console."""
    driver.get("about:blank")
    driver.get_log("browser")
    emulate(driver)

    def open_page(output, **options):
        driver.get(viz.step_through(output, tmp_path / "page.html", **options).as_uri())
        return Page(driver)

    yield open_page
    assert driver.get_log("browser") == []


class Page:
    """What a user of the page sees and does."""

    def __init__(self, driver):
        self.driver = driver
        self.badge = self.find("badge")
        self.steps = int(self.badge.text.split(" of ")[1])

    def find(self, name):
        return self.driver.find_element(By.ID, name)

    def click(self, name):
        self.find(name).click()

    def press(self, *keys):
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    @property
    def step(self):
        """Which step is shown, from 1 on."""
        return int(self.badge.text.split("· ")[1].split(" of ")[0])

    @property
    def phase(self):
        return self.badge.text.split(" ·")[0]

    @property
    def sentence(self):
        return self.find("sentence").text

    @property
    def lit(self):
        """The first line of the nodes that are lit."""
        lit = self.driver.find_elements(By.CSS_SELECTOR, "#graph .node.lit")
        return [node.find_element(By.CSS_SELECTOR, "text").text for node in lit]

    @property
    def panel(self):
        return self.find("panel").text

    def gradients(self):
        """The table of the leaves: name -> the gradient as text."""
        rows = self.driver.find_elements(By.CSS_SELECTOR, "#panel .leaves tbody tr")
        return {
            row.find_element(By.TAG_NAME, "th").text: row.find_element(By.CLASS_NAME, "gradient").text for row in rows
        }

    def run(self, script):
        return self.driver.execute_script(script)


def leaf(value, name):
    return Tensor(value, requires_grad=True, name=name)


def example():
    a, b, c = leaf(2.0, "a"), leaf(3.0, "b"), leaf(0.5, "c")
    return (a * b + c) * a, (a, b, c)


def as_shown(tensor):
    return np.array2string(tensor.grad.data, separator=", ", formatter={"float_kind": lambda x: f"{x:.4g}"})


def test_buttons_lead_through_all_steps(page):
    output, leaves = example()
    it = page(output)
    assert (it.step, it.steps, it.phase) == (1, 9, "Start")
    phases, lit = [], []
    while it.find("forward").is_enabled():
        it.click("forward")
        phases.append(it.phase)
        lit.append(it.lit)
    assert phases == ["Forward"] * 3 + ["Turn"] + ["Backward"] * 3 + ["End"]
    assert lit[:7] == [["v₁ = ×"], ["v₂ = +"], ["L = ×"], ["L = ×"], ["L = ×"], ["v₂ = +"], ["v₁ = ×"]]
    output.backward()
    assert it.gradients() == {tensor.name: as_shown(tensor) for tensor in leaves} == {"a": "12.5", "b": "4", "c": "2"}
    it.click("back")
    assert (it.step, it.phase) == (8, "Backward")
    it.click("first")
    assert (it.step, it.find("back").is_enabled()) == (1, False)
    it.click("last")
    assert it.step == 9


def test_a_step_shows_the_rule_with_numbers_and_what_adds_up(page):
    it = page(example()[0])
    it.press(*[Keys.ARROW_RIGHT] * 2)
    assert it.sentence == "v₂ = v₁ + c = 6.5"
    assert "v₂ = v₁ + c = 6 + 0.5 = 6.5" in it.panel
    it.press(*[Keys.ARROW_RIGHT] * 5)
    assert it.sentence == "v₁ hands its gradient on: ∂L/∂a = 6.5 + 6 = 12.5, ∂L/∂b = 4."
    for text in (
        "∂L/∂a gets = g · y = 2 × 3 = 6",
        "6.5 + 6 = 12.5",
        "contribution 2 of 2",
        "lambda g, _out, _x, y: g * y",
    ):
        assert text in it.panel
    graph = it.find("graph").text
    assert "∂ 12.5" in graph
    it.press(Keys.ARROW_LEFT, Keys.ARROW_LEFT)
    assert it.gradients() == {"a": "6.5 (1 of 2)", "b": "…", "c": "…"}


def test_the_keyboard_leads_through_all_steps(page):
    it = page(example()[0])
    for number in range(2, it.steps + 1):
        it.press(Keys.ARROW_RIGHT)
        assert it.step == number
    it.press(Keys.ARROW_RIGHT)
    assert it.step == it.steps
    it.press(Keys.ARROW_LEFT)
    assert it.step == it.steps - 1
    it.press(Keys.HOME)
    assert it.step == 1
    it.press(Keys.END)
    assert it.step == it.steps


def test_the_slider_moves_the_steps(page):
    it = page(example()[0])
    slider = it.find("slider")
    slider.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert it.step == 3  # by one each: the page does not count the key a second time
    slider.send_keys(Keys.END)
    assert (it.step, slider.get_attribute("aria-valuetext")) == (9, "9 of 9")
    it.run("const it = document.getElementById('slider'); it.value = 4; it.dispatchEvent(new Event('input'))")
    assert it.phase == "Turn"


def test_play_goes_on_by_itself_and_stops(page):
    it = page(example()[0])
    it.run("document.querySelector('#speed option').value = 30; document.querySelector('#speed').value = 30")
    it.press(Keys.SPACE)
    WebDriverWait(it.driver, 10, 0.05).until(lambda _: it.step == it.steps)
    assert it.find("play").get_attribute("aria-label") == "Play"
    it.run("document.querySelector('#speed option').value = 60000; document.querySelector('#speed').value = 60000")
    it.click("play")
    assert (it.step, it.find("play").get_attribute("aria-label")) == (1, "Pause")
    it.press(Keys.ARROW_RIGHT)
    assert (it.step, it.find("play").get_attribute("aria-label")) == (2, "Play")


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_light_and_dark_follow_the_system_and_the_switch(page, driver, dark):
    emulate(driver, dark=dark)
    it = page(example()[0])

    def brightness(selector="body", what="backgroundColor"):
        colour = it.run(f"return getComputedStyle(document.querySelector('{selector}')).{what}")
        return sum(map(int, colour.removeprefix("rgb(").removesuffix(")").split(", "))) / 3

    assert (brightness() < 60) == dark
    assert abs(brightness() - brightness(what="color")) > 150
    assert abs(brightness() - brightness("#graph .node.op text", "fill")) > 60
    it.click("theme")
    assert (brightness() < 60) != dark
    emulate(driver, dark=not dark)
    it.click("theme")
    assert (brightness() < 60) == dark


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (320, 640), (1280, 720), (1920, 1080)], ids=str)
def test_everything_is_on_one_screen(page, driver, size):
    width, height = size
    emulate(driver, width=width, height=height)
    model = nn.MLP([3, 4, 2], nn.ReLU)
    it = page(model, inputs=np.ones((2, 3)), loss=lambda y: F.cross_entropy(y, np.array([0, 1])), title="A network")
    found = it.run(EACH_STEP)
    assert len(found) == it.steps
    for number, (across, down, panel, lit) in enumerate(found, start=1):
        assert (across, down, panel, lit) == (width, height, 0, True), f"step {number}"
    buttons = it.driver.find_elements(By.CSS_SELECTOR, "footer button")
    assert all(b.rect["x"] >= 0 and b.rect["x"] + b.rect["width"] <= width for b in buttons)
    assert all(b.rect["y"] + b.rect["height"] <= height for b in buttons)


def test_a_name_shows_as_text_and_nothing_runs(page):
    a, twin = leaf(2.0, EVIL), leaf(3.0, EVIL)
    it = page(a * twin + a, title=EVIL, names={EVIL + "!": twin})
    shown = " ".join(EVIL.split())
    it.click("last")
    assert it.gradients() == {shown: "4", shown + "!": "2"}
    assert shown in it.find("graph").text.replace("\n", " ")
    assert it.run("return document.title") == it.driver.title
    assert it.driver.find_element(By.TAG_NAME, "h1").text == shown
    assert it.run("return document.querySelectorAll('img').length") == 0
    assert it.run("return document.querySelectorAll('script').length") == 2


def test_no_script_but_its_own_may_run(driver, page):
    it = page(example()[0])
    it.run("document.body.append(Object.assign(document.createElement('script'), {textContent: 'window.ran = 1'}))")
    assert it.run("return window.ran === undefined")
    messages = [entry["message"] for entry in driver.get_log("browser")]
    assert len(messages) == 1
    assert "Content Security Policy" in messages[0]


def test_what_a_screen_reader_needs_is_there(page):
    it = page(example()[0])
    assert it.find("sentence").get_attribute("aria-live") == "polite"
    for control in it.driver.find_elements(By.CSS_SELECTOR, "button, select, input"):
        assert control.accessible_name, control.get_attribute("outerHTML")
    it.press(Keys.TAB)
    outline = it.run("return getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    it.find("last").send_keys(Keys.ENTER)  # it is disabled then: the focus stays among the buttons
    assert (it.step, it.driver.switch_to.active_element.get_attribute("id")) == (9, "play")


def test_final_gradients_of_a_network_are_those_of_backward(page):
    model = nn.MLP([2, 2, 2], nn.Tanh)
    x, target = np.array([[1.0, 2.0]]), np.array([1])
    it = page(model, inputs=x, loss=lambda y: F.cross_entropy(y, target))
    it.press(Keys.END)
    F.cross_entropy(model(x), target).backward()
    expected = {name: " ".join(as_shown(parameter).split()) for name, parameter in model.named_parameters()}
    assert it.gradients() == expected
