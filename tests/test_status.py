"""What a node shows of itself: metrics that equal the ledger, a page in a real browser, JSON logs; never a value (invariant 34)."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import re
import shutil
import socket
import urllib.request
from collections import Counter

import pytest
from prometheus_client.parser import text_string_to_metric_families
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

import mpc
from mpc import ConfigError
from mpc.framing.handshake import WIRE_VERSION
from mpc.ledger import Books
from mpc.network.checks import own_version
from parties.jobs.job import Task
from parties.jobs.tally import OUTCOMES
from parties.logs import Formatter
from parties.status import server
from parties.status.server import Answer, serve
from tests.jobs import MEAN, RUN, decided, entries, jobs_of, near, recorded, requested, waiting
from tests.nodes import PATIENCE, Nodes
from tests.proxies import proxied

SLOW = {"target": "score", "solver": "sgd", "epochs": 5000, "batch_size": 20}
ENDLESS = Task("linear_regression", "patients", ("age", "bmi", "score"), ("a", "b", "c"), parameters=SLOW).pack()
CANARY = 33.7142857
WORD = "canary-8675309"


class Watched(Nodes):
    """Nodes with a status page each, and the JSON log."""

    def __init__(self, folder):
        super().__init__(folder, options=("--log-format", "json"))
        self.addresses = {}
        for name, port in self.spare_ports.items():
            self.addresses[name] = f"http://127.0.0.1:{port}"
            with (folder / f"{name}.toml").open("a") as file:
                file.write(f'[status]\naddress = "127.0.0.1:{port}"\nverify = 0.2\n')

    def ask_for(self, protocol, *names):
        """Let jobs of a protocol wait for approval at these."""
        for name in names:
            file = self.folder / f"{name}.toml"
            (allow,) = re.findall(r"^allow = .*$", file.read_text(), re.MULTILINE)
            rules = allow.replace(f'"{protocol}", ', "")
            file.write_text(file.read_text().replace(allow, "") + f'[policy]\n{rules}\nask = ["{protocol}"]\n')

    async def get(self, name, path):
        answer = await asyncio.to_thread(urllib.request.urlopen, self.addresses[name] + path, timeout=PATIENCE)
        with answer:
            return answer.read().decode()

    async def metrics(self, name):
        """The samples of a node by name and label."""
        text = await self.get(name, "/metrics")
        found = {}
        for family in text_string_to_metric_families(text):
            for sample in family.samples:
                found[(sample.name, *sample.labels.values())] = sample.value
        return found

    async def asked(self, task, at="a"):
        """The answer to a job."""
        return (await requested(self, {**RUN, "task": task}, at=at))[-1]

    async def cancelled(self):
        """A job that b cancels while it computes."""
        job = asyncio.create_task(self.asked(ENDLESS))
        async with asyncio.timeout(PATIENCE):
            while (shown := json.loads(await self.get("b", "/status.json"))["jobs"][0])["phase"] != "computing":
                await asyncio.sleep(0.02)
        (running,) = (each["id"] for each in await jobs_of(self, "b") if each["state"] == "running")
        assert (shown["id"], shown["state"], shown["phase"], shown["protocol"], shown["asker"]) == (
            running, "running", "computing", "linear_regression", "a",
        )  # fmt: skip
        assert (await self.metrics("b"))["beaver_current_jobs", "running"] == 1
        assert "event" in (await requested(self, {"do": "cancel", "id": running}, at="b"))[-1]
        assert (await job)["error"] == "PeerLost"
        for name in "abc":
            await self.settled(name)

    async def settled(self, name):
        async with asyncio.timeout(PATIENCE):
            while any(each["state"] == "running" for each in await jobs_of(self, name)):
                await asyncio.sleep(0.02)


def outcomes(log):
    """How jobs ended, as the audit log has it."""
    return Counter(entry.get("outcome", entry["kind"]) for entry in log if entry["kind"] in {"ended", "declined"})


def of(found, metric):
    return {key[1]: value for key, value in found.items() if key[0] == metric}


async def test_the_numbers_are_those_of_the_ledger_and_no_value_is_shown_anywhere(tmp_path):
    nodes = Watched(tmp_path)
    nodes.data["b"][3, 1] = CANARY
    nodes.write("b", nodes.data["b"])
    async with nodes:
        before = await nodes.metrics("a")
        assert before["beaver_rounds_total",] == before["beaver_round_seconds_count",] == 0
        assert of(before, "beaver_jobs_total") == dict.fromkeys(OUTCOMES, 0)
        assert before["beaver_node_info", "a", "", "1", own_version(), str(WIRE_VERSION)] == 1
        answer = await nodes.asked(MEAN)
        assert near(answer["result"]["mean"], nodes.pooled[:, :2].mean(axis=0))
        assert "result" in await nodes.asked({**MEAN, "protocol": "maximum"}, at="c")
        for name in "abc":
            await nodes.settled(name)
        async with asyncio.timeout(PATIENCE):
            # It has done a job when it has heard so of all parties.
            while of(dealt := await nodes.metrics("dealer"), "beaver_jobs_total") != {"done": 2, "failed": 0, "abandoned": 0}:
                await asyncio.sleep(0.02)
        parties = {name: await nodes.metrics(name) for name in "abc"}
        # What the dealer sent, its receivers got.
        corrections = {name: found["beaver_correction_bytes_total",] for name, found in parties.items()}
        assert {name: count for name, count in corrections.items() if count} == of(dealt, "beaver_payload_bytes_total") != {}
        assert {found["beaver_correlations_total",] for found in parties.values()} == {dealt["beaver_correlations_total",]} != {0}
        # Denied here; denied by b, whose data cannot be read any more; cancelled.
        assert (await nodes.asked({**MEAN, "protocol": "minimum"}))["error"] == "PolicyDenied"
        (tmp_path / "b.csv").write_text((tmp_path / "b.csv").read_text().replace(str(CANARY), WORD))
        assert (await nodes.asked(MEAN))["error"] == "Refused"
        nodes.write("b", nodes.data["b"])
        await nodes.cancelled()
        for name in "abc":
            found, log = await nodes.metrics(name), entries(nodes, name)
            costs = [entry["cost"] for entry in log if entry["kind"] == "ended" and entry["cost"] is not None]
            assert of(found, "beaver_jobs_total") == dict.fromkeys(OUTCOMES, 0) | outcomes(log)
            assert found["beaver_rounds_total",] == sum(cost["rounds"] for cost in costs) <= found["beaver_round_seconds_count",]
            assert sum(of(found, "beaver_payload_bytes_total").values()) == sum(cost["bytes_sent"] for cost in costs)
            assert found["beaver_correction_bytes_total",] == sum(cost["bytes_from_the_dealer"] for cost in costs)
            assert found["beaver_audit_entries",] == len(log)
            assert all(found["beaver_sent_bytes_total", peer] > found["beaver_payload_bytes_total", peer] for peer in set("abc") - {name})
            assert of(found, "beaver_peer_up") == dict.fromkeys(set("abc") - {name} | {"dealer"}, 1)
        assert of(await nodes.metrics("a"), "beaver_denials_total") == {"allow": 1}
        assert outcomes(entries(nodes, "a")) == {"done": 2, "declined": 1, "failed": 2}
        assert outcomes(entries(nodes, "b")) == {"done": 2, "failed": 1, "cancelled": 1}
        await nodes.kill("c")
        async with asyncio.timeout(PATIENCE):
            while (await nodes.metrics("a"))["beaver_peer_up", "c"]:
                await asyncio.sleep(0.02)
        shown = "".join([await nodes.get(name, path) for name in ("a", "b", "dealer") for path in ("/", "/status.json", "/metrics")])
    logged = "".join(nodes.log(name) for name in (*"abc", "dealer"))
    for secret in ("33.7142", WORD, *(f"{value:.4f}" for value in answer["result"]["mean"].values()), "age", "bmi"):
        assert re.search(rf"\b{re.escape(secret)}", shown) is None, secret
        assert secret in {"age", "bmi"} or secret not in logged, secret
    events = [json.loads(line) for line in logged.splitlines() if line != "stopped"]
    assert all(set("0123456789T:.-Z") >= set(event["time"]) and event["level"] and isinstance(event["text"], str) for event in events)
    ends = [event for event in events if event.get("job") == answer["id"] and event.get("phase") == "done"]
    assert {(event["node"], event.get("rounds")) for event in ends} == {("a", 1), ("b", 1), ("c", 1), ("dealer", None)}
    assert {event.get("error") for event in events if event.get("phase") == "failed"} >= {"PolicyDenied", "ConfigError", "Refused"}


async def test_an_approval_is_shown_as_long_as_it_stands(tmp_path):
    nodes = Watched(tmp_path)
    nodes.ask_for("mean", "a", "b", "c")

    async def shown(name, standing, state):
        """Sooner or later: what is approved is accepted for a moment, whenever it is proposed again."""
        wanted = (
            {"standing": len(standing), "jobs": standing},
            [(each, state) for each in standing],
            len(standing),
            {state: 1} if state else {},
        )
        async with asyncio.timeout(PATIENCE):
            while True:
                status, found = json.loads(await nodes.get(name, "/status.json")), await nodes.metrics(name)
                listed = [(each["id"], each["state"]) for each in status["jobs"] if each["state"] == state]
                if (status["approvals"], listed, found["beaver_standing_approvals",], of(found, "beaver_current_jobs")) == wanted:
                    return
                await asyncio.sleep(0.02)

    async with nodes:
        await shown("a", [], "")
        asked = asyncio.create_task(nodes.asked(MEAN))
        for name, state in (("a", "proposed"), ("b", "approved")):
            job = await waiting(nodes, name)
            await decided(nodes, "approve", job, name)
            await shown(name, [job], state)
        await decided(nodes, "approve", await waiting(nodes, "c"), "c")
        assert (await asked)["id"] == job
        for name in "abc":
            await nodes.settled(name)
            await shown(name, [], "")
        assert json.loads(await nodes.get("dealer", "/status.json"))["approvals"] is None
        assert ("beaver_standing_approvals",) not in await nodes.metrics("dealer")


async def test_a_dealer_remembers_the_last_sessions_and_counts_all(monkeypatch):
    monkeypatch.setattr("mpc.preprocessing.dealer.KEPT", 2)
    async with proxied(2) as network:

        async def product(s):
            await s.made(outcome := await mpc.mul(s, s.zero(8), s.zero(8)))
            return outcome.shape

        for number in range(3):
            assert await network.each(product, job=f"job {number}") == [(8,), (8,)]
        dealer = network.nodes[-1].dealer
        async with asyncio.timeout(PATIENCE):
            while dealer.outcomes["done"] < 3:
                await asyncio.sleep(0.01)
        assert [(each.job, each.state, sum(each.cost.sent.values())) for each in dealer.served] == [
            ("job 1", "done", 64),
            ("job 2", "done", 64),
        ]
        assert (network.nodes[-1].books.total().relations, network.nodes[0].books.total().relations) == (3, 3)


def test_books_only_grow_and_ask_the_clock_for_those_only_who_watch():
    books, seen = Books(), []
    with books.ledger() as early:
        assert early.on_round is None
        books.on_round = seen.append
        with books.ledger() as late:
            late.on_round(0.5)
            early.sends("b", 8)
            late.sends("b", 16)
            late.rounds, early.rounds = 2, 3
            assert (books.total().rounds, books.total().sent) == (5, {"b": 24})
        assert (books.total().rounds, books.total().sent) == (5, {"b": 24})
    assert (books.total().rounds, books.total().sent, books.total().blocks, seen) == (5, {"b": 24}, 2, [0.5])


# -- the server ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def site():
    """The server's answer to raw bytes, and what it logs."""
    log, written = logging.getLogger("beaver.a"), io.StringIO()
    handler = logging.StreamHandler(written)
    handler.setFormatter(Formatter())
    log.addHandler(handler)
    log.setLevel(logging.INFO)

    def fail():
        raise ValueError(WORD)

    with socket.create_server(("127.0.0.1", 0)) as free:
        where = free.getsockname()

    async def ask(request):
        reader, writer = await asyncio.open_connection(*where)
        try:
            writer.write(request)
            head, _, body = (await asyncio.wait_for(reader.read(), PATIENCE)).partition(b"\r\n\r\n")
        except ConnectionError:
            return "closed", "", b""
        finally:
            writer.close()
        status = head.split(b" ")[1].decode() if head else "closed"
        return status, head.decode().lower(), body

    async with serve(where, {"/": lambda: Answer("text/plain", b"hello"), "/bad": fail}, log):
        ask.where, ask.log = where, log
        yield ask
    log.removeHandler(handler)
    log.setLevel(logging.NOTSET)
    assert WORD not in written.getvalue()


REQUESTS = {
    "by address": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1:9464\r\n\r\n", "200"),
    "by IPv6": (b"GET /?x=1 HTTP/1.1\r\nHost: [::1]:9464\r\n\r\n", "200"),
    "through a tunnel": (b"GET / HTTP/1.1\r\nHost: localhost:80\r\n\r\n", "200"),
    "by a name that was made to mean this machine": (b"GET / HTTP/1.1\r\nHost: evil.example:9464\r\n\r\n", "421"),
    "by such a name that looks like an address": (b"GET / HTTP/1.1\r\nHost: 127.0.0.1.evil.example\r\n\r\n", "421"),
    "without a host": (b"GET / HTTP/1.1\r\n\r\n", "400"),
    "of old": (b"GET / HTTP/1.0\r\n\r\n", "421"),
    "to change something": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc", "405"),
    "for the head": (b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n", "405"),
    "for the head by a name": (b"HEAD / HTTP/1.1\r\nHost: evil.example\r\n\r\n", "405"),
    "for a file": (b"GET /../../etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n", "404"),
    "for what fails": (b"GET /bad HTTP/1.1\r\nHost: localhost\r\n\r\n", "500"),
    "rubbish": (b"\x16\x03\x01\x02\x00\r\n\r\n", "400"),
    "endless": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * (1 << 14), "431"),
}


@pytest.mark.parametrize("what", REQUESTS)
async def test_requests(site, what):
    request, wanted = REQUESTS[what]
    status, head, body = await site(request)
    assert status == wanted
    assert (body == b"hello") == (status == "200")
    for header in ("cache-control: no-store", "x-content-type-options: nosniff", "content-security-policy: default-src 'none'"):
        assert header in head


async def test_whoever_says_nothing_or_comes_too_often_is_dropped(site, monkeypatch):
    monkeypatch.setattr(server, "PATIENCE", 0.1)
    assert (await site(b"GET /"))[0] == "closed"
    monkeypatch.setattr(server, "MAX_CONNECTIONS", 0)
    assert (await site(REQUESTS["by address"][0]))[0] == "closed"
    with pytest.raises(ConfigError, match="the status page cannot listen on 127"):
        async with serve(site.where, {}, site.log):
            pass


# -- a real browser ------------------------------------------------------------------------------------------------

FLAGS = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--window-size=1250,1000",
)  # fmt: skip


@pytest.fixture
def browser(tmp_path):
    binary = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no browser here: install chromium and chromedriver (Debian: chromium, chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    for flag in (*FLAGS, f"--user-data-dir={tmp_path / 'profile'}"):
        options.add_argument(flag)
    found = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield found
    found.quit()


class Page:
    """The page of one node, as a person sees it."""

    def __init__(self, browser):
        self.browser = browser

    def text(self, name):
        return self.browser.find_element(By.ID, name).text

    def row(self, body, first):
        """The cells of the row that has `first` in it; none if there is no such row."""
        script = "return [...document.getElementById(arguments[0]).rows].map((row) => [...row.cells].map((cell) => cell.innerText))"
        return next((cells for cells in self.browser.execute_script(script, body) if first in cells), [])

    async def until(self, condition):
        waiting = WebDriverWait(self.browser, PATIENCE, poll_frequency=0.05)
        await asyncio.to_thread(waiting.until, lambda _: condition())


async def test_the_page_in_a_browser(tmp_path, browser):
    nodes = Watched(tmp_path)
    nodes.ask_for("sum", "a", "b")
    async with nodes:
        page = Page(browser)
        await asyncio.to_thread(browser.get, nodes.addresses["a"] + "/")
        await page.until(lambda: all("up" in page.row("peers", peer) for peer in ("b", "c", "dealer")))
        assert (page.text("name"), page.text("role"), page.text("no-jobs")) == ("a", "party", "No jobs since this node started.")
        await page.until(lambda: page.row("peers", "b")[5].endswith(" ms"))
        await page.until(lambda: page.text("audit-state") == "no entries")
        answer = await nodes.asked(MEAN, at="b")
        await page.until(lambda: "done" in page.row("jobs", answer["id"]))
        assert page.row("jobs", answer["id"])[1:4] == ["mean", "b", "a, b, c"]
        assert not browser.find_element(By.ID, "approvals").is_displayed()
        asked = asyncio.create_task(nodes.asked({**MEAN, "protocol": "sum"}))
        await decided(nodes, "approve", approved := await waiting(nodes, "a"), "a")
        await page.until(lambda: page.text("approvals") == f"Approved here and not started: 1 ({approved})")
        await decided(nodes, "approve", await waiting(nodes, "b"), "b")
        assert (await asked)["id"] == approved
        await page.until(lambda: not browser.find_element(By.ID, "approvals").is_displayed())
        job = asyncio.create_task(nodes.asked(ENDLESS))
        await page.until(lambda: "running (computing)" in page.row("jobs", "linear_regression"))
        await nodes.kill("c")
        await page.until(lambda: "down" in page.row("peers", "c"))
        await page.until(lambda: "failed (PeerLost)" in page.row("jobs", "linear_regression"))
        assert (await job)["error"] == "PeerLost"
        assert "c: " in page.text("problems")
        log = tmp_path / "a.audit.log"
        head = (await recorded(nodes, "b", 6))[-1]
        assert len(await recorded(nodes, "a", 6)) == 6 == head["number"]
        await page.until(lambda: (page.text("audit-state"), page.text("audit-entries")) == ("in order and signed", "6"))
        log.write_text(log.read_text().replace('"outcome":"done"', '"outcome":"dine"'))
        await page.until(lambda: page.text("audit-state").startswith("a.audit.log, line 2: "))
        assert (await nodes.metrics("a"))["beaver_audit_intact",] == 0
        mean = nodes.pooled[:, :2].mean(axis=0)
        assert not any(f"{value:.2f}" in browser.page_source for value in mean)
        # Nothing was refused to the page, nor failed in it; and what is put into it does not run.
        assert [entry for entry in browser.get_log("browser") if entry["level"] != "INFO"] == []
        inject = "const s = document.createElement('script'); s.textContent = 'window.ran = 1'; document.body.append(s); return window.ran"
        assert browser.execute_script(inject) is None
        await nodes.kill("a")
        await page.until(lambda: page.text("news").startswith("the node has not answered"))
