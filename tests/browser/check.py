"""The playground in Debian's Chromium: every exhibit by clicks and keys, its values beside the server's.

Usage: check.py PATH_OF_RUSHLIGHT FOLDER_FOR_SCREENSHOTS
"""
import json
import re
import subprocess
import sys
import urllib.request
from pathlib import Path

from playwright.sync_api import expect, sync_playwright

program, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
server = subprocess.Popen([program, "play", "--port", "0"], stdout=subprocess.PIPE, text=True)
url = re.search(r"http://\S+/", server.stdout.readline())[0]


def ask(path, body):
    request = urllib.request.Request(url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    return json.load(urllib.request.urlopen(request))


def watched(context, hash):
    page = context.new_page()
    problems = []
    page.on("console", lambda m: problems.append(m.text) if m.type in ("error", "warning") else None)
    page.on("pageerror", lambda e: problems.append(str(e)))
    page.goto(url + hash)
    return page, problems


try:
    with sync_playwright() as p:
        browser = p.chromium.launch(executable_path="/usr/bin/chromium", args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1440, "height": 900})

        page, problems = watched(context, "#train")
        expect(page.locator("#step")).to_have_text("0")
        paint = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime")
        total = page.evaluate("performance.getEntries().reduce((sum, e) => sum + (e.decodedBodySize ?? 0), 0)")
        page.locator("#one").click()
        expect(page.locator("#step")).to_have_text("1")
        page.locator("#start").focus()
        page.keyboard.press("Enter")
        expect(page.locator("#accuracy")).to_have_text(re.compile(r"^(9[5-9]|100)\."), timeout=60000)
        frames = page.evaluate("""() => new Promise((done) => { const id = sessionStorage.getItem('rushlight-training');
            const s = new EventSource(`/api/train/${id}/events`); let n = 0; s.onmessage = () => n++;
            setTimeout(() => { s.close(); done(n / 2); }, 2000); })""")
        other, other_problems = watched(context, "#train")
        expect(other.locator("#step")).to_have_text("0")  # a page of its own
        other.close()
        page.locator("#start").click()
        expect(page.locator("#start")).to_have_text("Start")
        step = page.locator("#step").text_content()
        page.reload()
        expect(page.locator("#step")).to_have_text(step)  # the session is gone on with
        assert page.locator("#flow tr").count() > 3

        page.get_by_role("tab", name="Train").focus()
        page.keyboard.press("ArrowRight")
        page.locator("[data-pool=average] button").nth(5).click()
        expect(page.locator("h3", has_text="Gradient of average output 5")).to_be_visible()
        shown = page.locator("[data-pool=softmax] button").all_text_contents()
        rows = [[1, 5, 2, 0, 3], [4, 4, 1, 7, 2], [0, 3, 8, 6, 1], [2, 9, 5, 4, 0], [6, 1, 3, 2, 7]]
        question = {"rows": rows, "kernel": 2, "stride": 1, "padding": 0, "dilation": 1, "output": 5}
        asked = ask("api/fold", question)["pools"][2]["values"]
        assert shown == [f"{v:.2f}" for v in asked], (shown, asked)

        page.get_by_role("tab", name="Max, argmax, softmax").click()
        slider = page.get_by_label("input 0")
        slider.focus()
        page.keyboard.press("ArrowRight")
        page.keyboard.press("ArrowRight")  # 1.5 to 2: a tie with input 2
        expect(page.locator("#ties")).to_contain_text("Inputs 0 and 2 tie")
        shown = page.locator("[data-row='softmax(x/T)'] td").all_text_contents()
        asked = ask("api/choose", {"values": [2, 0.5, 2, -1], "temperature": 1})["softmax"]
        assert shown == [f"{v:.3f}" for v in asked], (shown, asked)

        for name in ["train", "fold", "choose"]:
            for width in [375, 1440]:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(f"{url}#{name}")
                page.wait_for_timeout(400)
                page.screenshot(path=folder / f"play-{name}-{width}.png", full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide at {width}"
        assert not problems and not other_problems, (problems, other_problems)
        print(f"first paint {paint:.0f} ms, {frames:.0f} frames a second, all that was loaded {total / 1000:.0f} kB")
        assert paint < 300 and frames >= 10 and total < 300_000
        browser.close()
finally:
    server.terminate()
    server.wait()
