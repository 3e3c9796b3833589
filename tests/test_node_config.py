"""A node's file is read strictly: each mistake is told with file, line and remedy, and so are addresses that it may not name."""

from __future__ import annotations

import asyncio
import logging
import socket

import pytest

import mpc
from mpc import ConfigError
from mpc.config import NODE_KEYS, PartyConfig, load_config
from mpc.membership.endpoints import format_endpoint, parse_endpoint
from mpc.membership.identity import Identity, encode_key
from mpc.membership.roster import Member, Roster
from mpc.membership.toml_text import at_line
from mpc.transport.tcp import TcpListener, dial
from parties.config import NodeConfig, load_node_config
from parties.control import socket_path
from parties.policy import check_policy
from tests.ports import free_port
from tests.rosters import signed

A, B, D = Identity.generate("a"), Identity.generate("b"), Identity.generate("d")
OWN = 'name = "a"\nkey = "a.key"\nroster = "roster.toml"\n'
NODE = (
    OWN
    + """\
allow = ["mean", "linear_regression"]
min_rows = 20
max_jobs = 2
control = "run/a.sock"

[datasets.patients]
path = "patients.csv"
[datasets.patients.columns]
age = { range = [0, 120], unit = "years" }
bmi = { range = [10, 80.5] }
sex = {}
"""
)


@pytest.fixture
def home(tmp_path):
    A.save(tmp_path / "a.key")
    roster = Roster([Member("a", A.public, ("hospital-a.example", 9001)), Member("b", B.public, None)])
    (tmp_path / "roster.toml").write_text(signed(roster, A, B).dump())
    return tmp_path


def written(home, text):
    (home / "a.toml").write_text(text)
    return home / "a.toml"


def refusal(call, *arguments):
    with pytest.raises(ConfigError) as caught:
        call(*arguments)
    return str(caught.value)


def test_the_socket_is_found_by_the_same_paths_as_the_key(home, tmp_path_factory, monkeypatch):
    user = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("HOME", str(user))
    A.save(user / "a.key")
    there = OWN.replace('"a.key"', '"~/a.key"')
    # One socket for one key, however a configuration writes where that is.
    whole = OWN.replace('"a.key"', f'"{user}/a.key"')
    assert socket_path(load_node_config(written(home, there))) == socket_path(load_node_config(written(home, whole)))
    assert socket_path(load_node_config(written(home, OWN + 'control = "~/run/a.sock"\n'))) == user / "run" / "a.sock"
    assert socket_path(load_node_config(written(home, NODE))) == home / "run" / "a.sock"


def test_a_key_has_one_socket_by_whatever_links_and_ways_its_file_is_named(home, tmp_path_factory, monkeypatch):
    """`beaver jobs` in another folder, or by another name of the configuration, asks the node that runs."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "soft.key").symlink_to(home / "a.key")
    (elsewhere / "folder").symlink_to(home)
    whole = socket_path(load_node_config(written(home, OWN)))
    monkeypatch.chdir(home)
    assert socket_path(load_node_config("a.toml")) == whole
    monkeypatch.chdir(elsewhere)
    assert socket_path(load_node_config("folder/./a.toml")) == whole
    for key in ("soft.key", "./soft.key", "folder/a.key", f"folder/../{home.name}/a.key"):
        (elsewhere / "a.toml").write_text(OWN.replace("a.key", key))
        assert socket_path(load_node_config("a.toml")) == whole, key


# -- good files -----------------------------------------------------------------------------------------------


def test_a_whole_file(home, monkeypatch):
    path = written(home, NODE)
    monkeypatch.chdir("/")
    config = load_node_config(path)
    assert (config.allow, config.min_rows, config.max_jobs, config.control) == (["mean", "linear_regression"], 20, 2, "run/a.sock")
    assert config.resolve(config.dataset("patients").path) == home / "patients.csv"
    age, bmi, sex = config.dataset("patients").columns.values()
    assert (age.range, age.unit, bmi.range, bmi.unit, sex.range, sex.unit) == ((0.0, 120.0), "years", (10.0, 80.5), None, None, None)
    assert config.identity() == A
    assert config.load_roster()["b"].public == B.public
    assert config.folder == home


def test_nothing_is_allowed_unless_it_is_named(home):
    config = load_node_config(written(home, OWN))
    assert (config.allow, config.min_rows, config.max_jobs, config.control, config.datasets) == ([], 10, 4, None, {})


def test_tables_may_be_written_either_way(home):
    long = NODE.replace('age = { range = [0, 120], unit = "years" }\n', "") + (
        '[datasets.patients.columns.age]\nunit = "years"\nrange = [\n  0,  # newborn\n  120,\n]\n'
    )
    assert load_node_config(written(home, long)).datasets == load_node_config(written(home, NODE)).datasets


def test_a_status_page_is_on_loopback_unless_it_is_meant_otherwise(home):
    assert load_node_config(written(home, OWN)).status is None
    for address in ("127.0.0.1:9464", "[::1]:9464", "localhost:9464"):
        status = load_node_config(written(home, OWN + f'[status]\naddress = "{address}"')).status
        assert (status.address, status.exposed, status.verify, status.audit_keys) == (address, False, 60.0, [])
    for address in ("0.0.0.0:9464", "[::]:9464", "10.0.0.7:9464", "localhost.example:9464"):
        table = OWN + f'[status]\naddress = "{address}"\n'
        assert "is not on loopback" in refusal(load_node_config, written(home, table))
        assert load_node_config(written(home, table + "exposed = true")).status.endpoint[1] == 9464


def test_a_program_may_join_with_the_nodes_file(home):
    """mpc.connect reads the same file, and passes over what is for the node."""
    config = load_config(written(home, NODE))
    assert type(config) is PartyConfig
    assert config.name == "a"
    assert set(NODE_KEYS) == NodeConfig.model_fields.keys() - PartyConfig.model_fields.keys()
    assert "unknown key 'alow'; did you mean 'allow'?" in refusal(load_config, written(home, OWN + "alow = []"))


# -- mistakes -------------------------------------------------------------------------------------------------

COLUMNS = OWN + '[datasets.patients]\npath = "p.csv"\n[datasets.patients.columns]\n'
BAD = {
    "misspelt": (OWN + 'alow = ["mean"]', ", line 4: unknown key 'alow'; did you mean 'allow'?"),
    "misspelt in a dataset": (
        OWN + '[datasets.p]\npth = "p.csv"\ncolumns = {}',
        ", line 5: unknown key 'datasets.p.pth'; did you mean 'path'?",
    ),
    "misspelt in a table that may be left out": (
        OWN + '[status]\nadress = "[::1]:9"',
        ", line 5: unknown key 'status.adress'; did you mean 'address'?",
    ),
    "misspelt in a column": (
        COLUMNS + "bmi = {}\nage = { rnge = [0, 1] }",
        ", line 8: unknown key 'datasets.patients.columns.age.rnge'; did you mean 'range'?",
    ),
    "misspelt in a column's table": (
        COLUMNS + '[datasets.patients.columns.age]\nrange = [0, 120]\n# years\nunti = "years"',
        ", line 10: unknown key 'datasets.patients.columns.age.unti'; did you mean 'unit'?",
    ),
    "misspelt, hence missing": (OWN.replace("roster =", "rooster ="), ", line 3: unknown key 'rooster'; did you mean 'roster'?"),
    "missing": (OWN + "[datasets.p]\ncolumns = {}", ", line 4: key 'datasets.p': needs either 'path', or 'sql' and 'database'"),
    "list": (OWN + 'allow = "mean"', ", line 4: key 'allow': input should be a valid list"),
    "entry": (OWN + 'allow = [\n  "mean",\n  3,\n]', ", line 4: key 'allow', entry 2: input should be a valid string"),
    "text": (OWN + 'min_rows = "10"', ", line 4: key 'min_rows': input should be a valid integer"),
    "fraction": (OWN + "min_rows = 10.0", ", line 4: key 'min_rows': input should be a valid integer"),
    "truth": (OWN + "max_jobs = true", ", line 4: key 'max_jobs': input should be a valid integer"),
    "negative": (OWN + "min_rows = -1", ", line 4: key 'min_rows': input should be greater than or equal to 0"),
    "no jobs": (OWN + "max_jobs = 0", ", line 4: key 'max_jobs': input should be greater than or equal to 1"),
    "appended": (
        OWN + "[datasets.p]\npath = 'p.csv'\n[datasets.p.columns]\nage = {}\nmax_jobs = 3",
        ", line 8: 'max_jobs' stands in the table [datasets.p.columns], and is a key of the whole file: write it above the first [table]",
    ),
    "appended rule": (
        OWN + "[policy]\nallow = []\n[policy.clients]\nlisten = 'h:1'",
        ", line 7: 'listen' stands in the table [policy.clients], and is a key of the whole file: write it above the first [table]",
    ),
    "table": (OWN + "datasets = 3", ", line 4: key 'datasets' must be a table"),
    "dataset": (OWN + '[datasets]\np = "p.csv"', ", line 5: key 'datasets.p' must be a table"),
    "column": (COLUMNS + "age = [0, 120]", ", line 7: key 'datasets.patients.columns.age' must be a table"),
    "clocks": (OWN + "clocks = 3", ", line 4: key 'clocks' must be a table"),
    "unit": (COLUMNS + "age = { unit = 1 }", ", line 7: key 'datasets.patients.columns.age.unit': input should be a valid string"),
    "one end": (COLUMNS + "age = { range = [0] }", ", line 7: key 'datasets.patients.columns.age.range': must be two finite numbers"),
    "text range": (COLUMNS + 'age = { range = ["0", "9"] }', "must be two finite numbers, [low, high]"),
    "infinite": (COLUMNS + "age = { range = [0, inf] }", "must be two finite numbers, [low, high]"),
    "true": (COLUMNS + "age = { range = [0, true] }", "must be two finite numbers, [low, high]"),
    "backwards": (COLUMNS + "age = { range = [120, 0] }", "the first number, the lowest value allowed, must be less than the second"),
    "listen": (OWN + 'listen = "Nowhere"', ", line 4: key 'listen': 'Nowhere' is no endpoint; write \"host:9001\" or \"[::1]:9001\""),
    "twice": (OWN + "min_rows = 1\nmin_rows = 2", "write all of it in one place: Cannot overwrite a value (at line 5"),
}


@pytest.mark.parametrize("what", BAD)
def test_mistakes_name_file_line_and_remedy(home, what):
    text, message = BAD[what]
    path = written(home, text)
    assert refusal(load_node_config, path).startswith(str(path))
    assert message in refusal(load_node_config, path)


def test_lines_are_found_in_any_style():
    text = """\
a = '''
b = 1
'''
# b = 2
'b' = 3
x.y.z = 1
[t]
b = [
  1, # ]
  2,
]
[[m]]
b = 1
[[m]]
"c" = { d = { e = 1 } }
[t."u.v"]
b = 1"""
    places = {
        ("a",): 1,
        ("b",): 5,
        ("x", "y", "z"): 6,
        ("t", "b"): 8,
        ("t", "b", 1): 8,
        ("m", 0, "b"): 13,
        ("m", 1): 14,
        ("m", 1, "c", "d", "e"): 15,
        ("m", 1, "b"): 14,
        ("t", "u.v", "b"): 17,
        ("t", "u.v", "c"): 16,
    }
    assert {place: at_line(text, place) for place in places} == {place: f", line {line}" for place, line in places.items()}
    assert at_line(text, ("nowhere", "b")) == at_line(text, ()) == at_line("", ("a",)) == ""


def test_a_value_of_many_lines_takes_no_longer_than_they_are_many():
    """A time that grew as the square of the number of lines would be half an hour."""
    assert at_line("a = [\n" + "1,\n" * 20_000 + "]\nb = 1\n", ("b",)) == ", line 20003"
    assert at_line("a = [\n" + "[1],\n" * 20_000 + "]\nb = 1\n", ("b",)) == ""


def test_protocols_must_exist(home):
    config = load_node_config(written(home, NODE))
    check_policy(config)
    check_policy(load_node_config(written(home, OWN)))
    config = load_node_config(written(home, NODE.replace('"linear_regression"', '"meen"')))
    message = refusal(check_policy, config)
    assert message == f"{home / 'a.toml'}, line 4: key 'allow', entry 2: unknown protocol 'meen'; did you mean 'mean'?"


def test_datasets_and_columns_must_be_declared(home):
    config = load_node_config(written(home, NODE))
    where = home / "a.toml"
    assert refusal(config.dataset, "patient") == f"{where}, line 9: unknown dataset 'patient'; did you mean 'patients'?"
    assert refusal(config.dataset, "x") == f"{where}, line 9: unknown dataset 'x'; known are: patients"
    message = f"{where}, line 11: dataset 'patients' declares no column 'agee'; did you mean 'age'?"
    assert refusal(config.column, "patients", "agee") == message
    assert refusal(load_node_config(written(home, OWN)).dataset, "x") == f"{where}: unknown dataset 'x'; known are: none"


# -- roster and key -------------------------------------------------------------------------------------------


def block(name, key, *more):
    return "\n".join(["[[member]]", f'name = "{name}"', f'key = "{encode_key(key.public)}"', *more, ""])


ROSTERS = {
    "misspelt": (
        block("a", A) + block("b", B, "# where", 'endpont = "h:1"'),
        ", line 8: [[member]] 2: unknown key 'endpont'; did you mean",
    ),
    "type": (block("a", A, "endpoint = 9001") + block("b", B), ", line 4: [[member]] 1: endpoint must be text in quotes, not int"),
    "endpoint": (block("a", A) + block("b", B, 'endpoint = "h"'), ", line 7: [[member]] 2 (b): 'h' is no endpoint"),
    "role": (block("a", A) + block("b", B, 'role = "deeler"'), ", line 7: [[member]] 2: unknown role 'deeler'; did you mean 'dealer'?"),
    "no key": (block("a", A) + '[[member]]\nname = "b"', ", line 4: [[member]] 2: key is missing"),
    "no member": ("\n[[members]]", ", line 2: unknown key 'members'; did you mean 'member'?"),
    "names": (block("a", A) + block("a", B), ": two members are called a; names must differ"),
    "keys": (block("a", A) + block("b", A), ": a and b have the same key; every member generates its own"),
    "own name": (block("aa", A) + block("b", B), ": does not list 'a', this configuration's name; did you mean 'aa'?"),
    "own key": (block("a", Identity.generate("a")) + block("b", B), ": gives a another key than "),
}


@pytest.mark.parametrize("what", ROSTERS)
def test_rosters_that_are_wrong(home, what):
    text, message = ROSTERS[what]
    (home / "roster.toml").write_text(text)
    config = load_node_config(written(home, OWN))
    assert refusal(config.load_roster).startswith(f"{home / 'roster.toml'}{message}")


def test_a_key_that_others_may_read(home):
    (home / "a.key").chmod(0o640)
    where = home / "a.key"
    message = f"{where}: others may read or write this key (mode 0640); run `chmod 600 {where}`"
    assert refusal(load_node_config(written(home, OWN)).identity) == message
    assert refusal(mpc.open_node, written(home, OWN)) == message


def test_a_configuration_and_a_policy_that_everybody_may_write(home):
    policy = home / "everybody.toml"
    policy.write_text('allow = ["mean"]\n')
    config = written(home, OWN + 'policy = "everybody.toml"\n')
    for file, what in ((config, "configuration"), (policy, "policy")):
        file.chmod(0o664)
        assert load_node_config(config).rules.allow == ["mean"]
        file.chmod(0o646)
        assert refusal(load_node_config, config) == f"{file}: everybody may write this {what} (mode 0646); run `chmod go-w {file}`"
        file.chmod(0o644)


# -- addresses ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listen", ["0.0.0.0:9001", "[::]:9001", "127.0.0.1:9001", "hospital-a.example:9001"])
def test_listening_elsewhere_than_at_the_public_endpoint(home, caplog, listen):
    config = load_node_config(written(home, OWN + f'listen = "{listen}"'))
    assert format_endpoint(config.listen_address()) == listen
    assert caplog.records == []


def test_another_port_than_the_public_one_is_told(home, caplog):
    config = load_node_config(written(home, OWN + 'listen = "0.0.0.0:19001"'))
    assert config.listen_address() == ("0.0.0.0", 19001)
    [record] = caplog.records
    assert (record.levelno, record.name) == (logging.WARNING, "beaver.a")
    assert (
        record.getMessage() == "listens on port 19001, but the roster tells the others port 9001: something must forward one to the other"
    )


def test_listening_without_a_public_endpoint_is_told(home, caplog):
    roster = Roster([Member("a", A.public, None), Member("b", B.public, ("h", 1))])
    (home / "roster.toml").write_text(signed(roster, A, B).dump())
    assert load_node_config(written(home, OWN + 'listen = "[::1]:9001"')).listen_address() == ("::1", 9001)
    assert caplog.messages == ["listens on port 9001, but the roster gives a no endpoint: nobody will dial it"]
    assert load_node_config(written(home, OWN)).listen_address() is None


async def test_ipv6(home):
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
            port = probe.getsockname()[1]
    except OSError:
        pytest.skip("no IPv6 here")
    address = load_node_config(written(home, OWN + f'listen = "[::1]:{port}"')).listen_address()
    accepted = asyncio.get_running_loop().create_future()
    listener = await TcpListener.listen(accepted.set_result, endpoint=address)
    assert listener.address == parse_endpoint(f"[::1]:{port}")
    for link in (await dial(*address), await accepted):
        link.abort()
        await link.wait_closed()
    await listener.close()


async def test_listening_at_a_host_that_does_not_resolve(home):
    node = mpc.open_node(written(home, OWN + 'listen = "nowhere.invalid:9001"'))
    with pytest.raises(
        ConfigError, match=r"cannot listen on nowhere\.invalid:9001: .+; this machine finds no address for the host: correct"
    ):
        async with node:
            pass


async def test_dialling_a_host_that_does_not_resolve(home):
    members = [Member("a", A.public, ("127.0.0.1", free_port())), Member("b", B.public, ("nowhere.invalid", 1))]
    roster = Roster([*members, Member("d", D.public, ("nowhere.invalid", 2), "dealer")])
    (home / "roster.toml").write_text(signed(roster, A, B, D).dump())
    with pytest.raises(
        mpc.PeerLost, match=r"b: did not come \(b: cannot be reached at nowhere\.invalid:1, its endpoint in the roster: .+\) within 1 s"
    ):
        async with mpc.connect(written(home, OWN + "[clocks]\njoin = 1.0\n"), job="j"):
            pass


@pytest.mark.parametrize(
    "text", ["a..b:1", "x" * 64 + ".example:1", "[zz]:1", "[1::2::3]:1", "[127.0.0.1]:1", "::1:9001", "host", "host:0"]
)
def test_addresses_that_cannot_be(home, text):
    message = refusal(load_node_config, written(home, OWN + f'listen = "{text}"'))
    assert message.startswith(f"{home / 'a.toml'}, line 4: key 'listen': {text!r} is no endpoint; write")
