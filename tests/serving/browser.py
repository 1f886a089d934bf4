"""Debian's Chromium without a window, driven by its DevTools protocol over a pair of pipes."""

import base64
import contextlib
import json
import os
import shutil
import subprocess
import time

PROGRAM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


class Page:
    """One page: what a person does with it, and what stands on it."""

    def __init__(self, ask, session):
        self.ask, self.session = ask, session

    def call(self, method, **parameters):
        return self.ask(method, parameters, self.session)

    def value(self, expression):
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def until(self, expression, seconds=20):
        end = time.monotonic() + seconds
        while not (found := self.value(expression)):
            assert time.monotonic() < end, expression
            time.sleep(0.03)
        return found

    def click(self, selector):
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        box = self.value(
            f"(() => {{ const e = document.querySelector({json.dumps(selector)});"
            "e.scrollIntoView({block: 'center'}); const b = e.getBoundingClientRect();"
            "return [b.x + b.width / 2, b.y + b.height / 2]; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=box[0], y=box[1], button="left", clickCount=1)

    def type(self, text):
        self.call("Input.insertText", text=text)

    def press(self, key):
        more = {"text": "\r"} if key == "Enter" else {}
        code = {"Enter": 13, "Tab": 9}[key]
        for kind in ("keyDown", "keyUp"):
            shown = more if kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **shown)

    def resize(self, width, height=900):
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)

    def picture(self, path):
        shot = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(shot["data"]))


@contextlib.contextmanager
def opened(address, folder):
    """Yields the page at an address; `folder` is the browser's own."""
    to_browser, from_us = os.pipe()
    from_browser, to_us = os.pipe()
    options = "--headless=new --no-sandbox --disable-gpu --disable-dev-shm-usage --no-first-run --remote-debugging-pipe"
    command = f'exec "$0" {options} --user-data-dir="$1" about:blank 3<&{to_browser} 4>&{to_us}'
    process = subprocess.Popen(
        ["bash", "-c", command, PROGRAM, str(folder)], pass_fds=(to_browser, to_us), stderr=subprocess.DEVNULL
    )
    os.close(to_browser)
    os.close(to_us)
    with os.fdopen(from_us, "wb", buffering=0) as writing, os.fdopen(from_browser, "rb") as reading:
        answers, said = {}, bytearray()

        def ask(method, parameters, session=None):
            number = ask.number = getattr(ask, "number", 0) + 1
            message = {"id": number, "method": method, "params": parameters}
            writing.write(json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0")
            while number not in answers:
                part = reading.read1(1 << 16)
                assert part, "the browser has ended"
                said.extend(part)
                *whole, rest = bytes(said).split(b"\0")
                said[:] = rest
                answers.update({one["id"]: one for one in map(json.loads, whole) if "id" in one})
            answer = answers.pop(number)
            assert "error" not in answer, answer
            return answer["result"]

        try:
            target = ask("Target.createTarget", {"url": address})["targetId"]
            session = ask("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
            yield Page(ask, session)
            ask("Browser.close", {})
        finally:
            if process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(5)
                process.kill()
            process.wait()
