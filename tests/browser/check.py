"""The playground in Debian's Chromium: every exhibit by clicks and keys, its values beside the server's.

Usage: check.py PATH_OF_RUSHLIGHT FOLDER_FOR_SCREENSHOTS
"""
import json
import re
import shutil
import subprocess
import sys
import urllib.request
from pathlib import Path
from urllib.parse import unquote

import axe_playwright_python
from playwright.sync_api import expect, sync_playwright

EXHIBITS = ["train", "fold", "choose", "gates", "attention", "images", "tensors"]
AXE = (Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
program, folder = sys.argv[1], Path(sys.argv[2])
folder.mkdir(parents=True, exist_ok=True)
run = folder / "run"
shutil.rmtree(run, ignore_errors=True)
subprocess.run([program, "train", "images", "--epochs", "2", "--out", str(run)], check=True, stdout=subprocess.DEVNULL)
server = subprocess.Popen([program, "play", "--port", "0", "--run", str(run)], stdout=subprocess.PIPE, text=True)
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

        page.get_by_role("tab", name="Gates").click()
        slider = page.get_by_label("r", exact=True)
        slider.focus()
        page.keyboard.press("ArrowLeft")  # 1 to 0.75
        asked = ask("api/gates", {"x": 3, "y": -1, "r": 0.75, "values": [2, -1, 0.5, 3], "scores": [0, 1, -1, 0.5]})
        expect(page.locator("#by-r")).to_have_text(f"{asked['gradients'][2]:.3f}")
        expect(page.locator("#gate")).to_have_text(f"{asked['gate']:.3f}")
        shown = page.locator("[data-row='∂z/∂s'] td").all_text_contents()
        assert shown == [f"{v:.3f}" for v in asked["score_gradients"]], (shown, asked)

        page.get_by_role("tab", name="Attention").click()
        expect(page.locator("#weighed button")).to_have_count(8)
        question = {"run": None, "text": "KING", "written": [], "layer": 1, "head": 2, "temperature": 0, "seed": 0}
        page.locator("#text").fill("KING")
        page.get_by_label("layer").select_option("1")
        page.get_by_label("head").select_option("2")
        asked = ask("api/attention", question)
        likeliest = asked["weighed"][0]
        name = likeliest["piece"].replace(" ", "·").replace("\n", "¶")
        expect(page.locator("#weighed button").first).to_have_text(f"{name} {likeliest['probability']:.3f}")
        column, weight = max(enumerate(asked["last"][1][2]), key=lambda w: w[1])
        expect(page.locator("[data-head='1 2'] td").last).to_have_text(f"{asked['columns'][column]} {weight:.2f}")
        page.locator("#weighed button").first.click()
        expect(page.locator("#written")).to_have_text(re.compile("KING."))
        page.locator("#write").click()
        expect(page.locator("#written")).to_have_text(re.compile(r".{30,}", re.DOTALL), timeout=30000)
        page.locator("#write").click()
        expect(page.locator("#write")).to_have_text("Write")

        page.get_by_role("tab", name="Images").click()
        expect(page.locator("#state")).to_contain_text("2 epochs measured")
        page.get_by_label("test picture").fill("7")
        expect(page.locator("h3", has_text="Test picture 7 of")).to_be_visible()
        asked = ask("api/run", {"run": 0, "picture": 7})["images"]
        shown = page.locator("#probabilities td").all_text_contents()
        assert shown == [f"{v:.3f}" for v in asked["probabilities"]], (shown, asked["probabilities"])
        shown = [int(v) for v in page.locator("#confusion td").all_text_contents()]
        assert shown == sum(asked["confusion"], []) and sum(shown) == 1000
        assert page.locator("#run canvas").count() == 1 + 3 * 8

        page.get_by_role("tab", name="Tensors").click()
        page.locator("[data-stage='2'] button").nth(1).focus()  # [0, 1] of the transposed and narrowed
        expect(page.locator("[data-stage='2'] [aria-live]")).to_have_text("element [0, 1] lies at place 5")
        expect(page.locator("[data-strip='2'] .seen")).to_have_text("5")
        page.locator("#add").click()
        expect(page.locator("[data-stage='3']")).to_contain_text("strides [-1, 4]")
        page.locator("[data-step='2'] select").select_option("reshape")
        page.locator("[data-step='2'] input").fill("3, 3")
        expect(page.locator("#refused")).to_contain_text("reshape")
        page.locator("#expression").fill("x*y + z^2")
        expect(page.locator("[data-node]")).to_have_count(7)
        asked = ask("api/graph", {"expression": "x*y + z^2", "variables": {"x": 1, "y": 2, "z": 0.5}})["nodes"]
        page.get_by_text("The same as a table").click()
        shown = page.locator("[data-node] td:last-child").all_text_contents()
        assert shown == ["–" if n["gradient"] is None else f"{n['gradient']:.3f}" for n in asked], (shown, asked)
        with page.expect_response(lambda r: r.status == 422):
            page.locator("#expression").fill("x*")
        expect(page.locator("#error")).to_contain_text("the expression ends too early")
        assert problems and all("422" in p for p in problems), problems  # Chromium reports the refusal itself
        problems.clear()
        page.locator("#expression").fill("x*y")
        expect(page.locator("#error")).to_be_hidden()

        for name in EXHIBITS:
            for width in [375, 1440]:
                page.set_viewport_size({"width": width, "height": 900})
                page.goto(f"{url}#{name}")
                page.wait_for_timeout(400)
                page.screenshot(path=folder / f"play-{name}-{width}.png", full_page=True)
                wide = page.evaluate("document.documentElement.scrollWidth")
                assert wide <= width, f"{name} is {wide} wide at {width}"
        for name in EXHIBITS:  # each link to a source leads to a file that has the lines
            page.goto(f"{url}#{name}")
            links = page.locator("a[href^='/source/']").evaluate_all("links => links.map((a) => a.getAttribute('href'))")
            assert links, name
            for link in links:
                path, _, text = link.partition("#:~:text=")
                assert unquote(text) in urllib.request.urlopen(url + path[1:]).read().decode(), link
        # What axe-core finds wrong for those who see little, or use no mouse; in light and dark.
        for scheme in ["light", "dark"]:
            page.emulate_media(color_scheme=scheme)
            for name in EXHIBITS:
                page.goto(f"{url}#{name}")
                page.reload()
                page.wait_for_timeout(400)
                page.evaluate(AXE)
                found = page.evaluate("axe.run({ runOnly: ['wcag2a', 'wcag2aa', 'wcag21aa'] })")["violations"]
                faults = [(v["id"], [n["html"][:90] for n in v["nodes"][:3]]) for v in found]
                assert not faults, f"{name}, {scheme}: {faults}"
        assert not problems and not other_problems, (problems, other_problems)
        print(f"first paint {paint:.0f} ms, {frames:.0f} frames a second, all that was loaded {total / 1000:.0f} kB")
        assert paint < 300 and frames >= 10 and total < 300_000
        browser.close()
finally:
    server.terminate()
    server.wait()
