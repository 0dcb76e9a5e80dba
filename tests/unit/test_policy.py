"""What a plant allows: every refusal has its word, and nothing in a request can change the policy."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from pydantic import ValidationError

from client.agent.audit import AuditLog
from client.agent.guard import CallStop, Guard
from client.agent.hours import next_opening, parse_window
from client.agent.ledger import Ledger
from client.agent.policy import WORDS, Budget, Facts, Policy, judge, read_policy
from client.agent.service import PlantAgent
from shared.config import Recipe
from shared.errors import AuditBroken, BadPayload, InvalidConfig, NotAllowed
from shared.wire.envelope import Packet
from shared.wire.frame import decode_frame, encode_frame
from shared.wire.gate import Expectation, Rejected, parse_reply
from shared.wire.inventory import Kind
from shared.wire.messages import Request, encode_request
from shared.wire.signature import SIGNATURE, Due, PrivateKey, Signed, fingerprint, sign, verify
from tests.support import agents
from tests.support.puppets import changed
from tests.support.tampering import sites

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)  # a Sunday
FACTS = Facts(rows=110, schema="0123456789abcdef", plant="north")
TOMORROW = NOW + timedelta(days=1)


def refused(policy: dict[str, object], packet: Packet, now: datetime = NOW) -> str:
    with pytest.raises(NotAllowed) as caught:
        judge(Policy.model_validate(policy), packet, FACTS, now)
    assert caught.value.word.split()[0] in WORDS
    return caught.value.word


def allowed(policy: dict[str, object], packet: Packet, now: datetime = NOW) -> str:
    return judge(Policy.model_validate(policy), packet, FACTS, now).signer


def private(epsilon: float = 3.0, mode: str = "local", unit_s: float | None = None, every: int = 1) -> Recipe:
    """A recipe with a claim that does not contradict itself."""
    noise = {"weights": 9.0, "below": 90.0, "loss": 90.0, "statistic": 90.0}
    said = {
        "detector": {"dropout": 0.0},
        "preprocess": {"every": every},
        "privacy": {"mode": mode, "epsilon": epsilon, "unit_s": unit_s, "noise": noise},
    }
    return Recipe.model_validate(said)


# ---- one refusal a category ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "word"),
    [
        ({"kinds": ["describe"]}, "kind"),
        ({"detectors": ["vae"]}, "detector"),
        ({"schema": "fedcba9876543210"}, "schema"),
        ({"signers": ["SHA256:" + "A" * 43]}, "signer"),
        ({"dp": {"required": True}}, "privacy"),
        ({"hours": {"windows": ["Mon-Sat 00:00-24:00"]}}, "hours"),
        ({"hours": {"windows": ["Sun 18:00-23:00"], "announce": True}}, "hours until 2026-11-22T18:00Z"),
        ({"caps": {"window": 7}}, "resources"),
        ({"caps": {"hidden": 7}}, "resources"),
        ({"caps": {"latent": 3}}, "resources"),
        ({"caps": {"windows": 27}}, "resources"),  # 110 rows at a stride of 4: 28
    ],
)
def test_what_a_policy_forbids_is_refused_by_its_word(policy: dict[str, object], word: str) -> None:
    assert refused(policy, agents.train()) == word


def test_the_defaults_and_the_exact_limits_allow() -> None:
    assert allowed({}, agents.train()) == ""
    caps = {"window": 8, "hidden": 8, "latent": 4, "windows": 28, "batch_size": 64, "local_epochs": 1}
    exact = {"kinds": ["train"], "detectors": ["hac-uml"], "schema": FACTS.schema, "caps": caps}
    assert allowed({**exact, "hours": {"windows": ["Sun 12:00-12:01"]}}, agents.train()) == ""


@pytest.mark.parametrize(("field", "value"), [("local_epochs", 51), ("batch_size", 4097)])
def test_a_recipe_that_asks_for_too_much_work(field: str, value: int) -> None:
    assert refused({}, agents.train(recipe=agents.with_training(**{field: value}))) == "resources"


def test_an_ensemble_s_members_count_as_units_side_by_side() -> None:
    detector = agents.RECIPE.detector.model_copy(update={"name": "ewad", "members": 4})
    asked = agents.train(recipe=agents.RECIPE.model_copy(update={"detector": detector}))
    assert refused({"caps": {"hidden": 31}}, asked) == "resources"
    assert allowed({"caps": {"hidden": 32}}, asked) == ""


def test_a_batch_of_everything_counts_as_everything() -> None:
    whole = agents.train(recipe=agents.with_training(batch_size=0))
    assert allowed({"caps": {"batch_size": 28}}, whole) == ""
    assert refused({"caps": {"batch_size": 27}}, whole) == "resources"


def test_outside_the_hours_a_plant_still_describes_itself() -> None:
    assert allowed({"hours": {"windows": ["Mon 00:00-01:00"]}}, agents.describe()) == ""


def test_a_plant_that_requires_privacy_does_not_even_tell_its_size_without() -> None:
    assert refused({"dp": {"required": True}}, agents.describe()) == "privacy"


@pytest.mark.parametrize(("epsilon", "fine"), [(8.0, True), (0.5, True), (8.1, False), (100.0, False)])
@pytest.mark.parametrize("required", [True, False])
def test_a_claim_must_keep_within_the_floor(epsilon: float, fine: bool, required: bool) -> None:
    policy: dict[str, object] = {"dp": {"required": required}}
    offer = agents.train(recipe=private(epsilon=epsilon))
    assert (allowed(policy, offer) == "") if fine else (refused(policy, offer) == "privacy")


def test_a_central_claim_is_none_to_a_plant_that_requires_one() -> None:
    central = agents.train(recipe=private(mode="central"))
    assert refused({"dp": {"required": True}}, central) == "privacy"
    assert allowed({}, central) == ""


@pytest.mark.parametrize(
    ("floor", "word"),
    [
        ({"delta": 1e-6}, "privacy"),
        ({"delta": 1e-5}, ""),
        ({"unit": 60}, ""),
        ({"unit": 61}, "privacy"),
    ],
)
def test_delta_and_the_length_of_a_record_have_their_floor(floor: dict[str, object], word: str) -> None:
    offer = agents.train(recipe=private())
    policy: dict[str, object] = {"dp": {"required": True, **floor}}
    assert (refused(policy, offer) if word else allowed(policy, offer)) == word


def test_a_record_is_as_long_as_its_samples_are_apart() -> None:
    """300 seconds of a plant that samples every ten are 30 samples, whatever is joined."""
    offer = agents.train(recipe=private(unit_s=300.0, every=5))
    slow = replace(FACTS, period_s=10.0)
    judge(Policy.model_validate({"dp": {"unit": 30}}), offer, slow, NOW)
    with pytest.raises(NotAllowed, match="30 samples"):
        judge(Policy.model_validate({"dp": {"unit": 31}}), offer, slow, NOW)


@pytest.mark.parametrize(
    "broken",
    [
        {"detector": {"dropout": 0.1}},
        {"detector": {"bottleneck": "linear"}},
        {"clustering": {"target": "local"}},
        {"preprocess": {"rolling": 50}},
        {"preprocess": {"min_variance": 0.01}},
        {"preprocess": {"max_correlation": 0.9}},
        {"privacy": {"epsilon": None}},
        {"privacy": {"noise": {"weights": 0.0, "below": 9.0, "loss": 9.0, "statistic": 9.0}}},
        {"privacy": {"noise": {"weights": 9.0, "below": 0.0, "loss": 9.0, "statistic": 9.0}}},
        {"privacy": {"noise": {"weights": 9.0, "below": 9.0, "loss": 0.0, "statistic": 9.0}}},
        {"privacy": {"noise": {"weights": 9.0, "below": 9.0, "loss": 9.0, "statistic": 0.0}}},
    ],
)
def test_a_recipe_that_contradicts_its_own_claim_is_refused(broken: dict[str, dict[str, object]]) -> None:
    recipe = private()
    for group, values in broken.items():
        said = getattr(recipe, group).model_dump() | values
        recipe = recipe.model_copy(update={group: type(getattr(recipe, group)).model_validate(said)})
    assert refused({}, agents.train(recipe=recipe)) == "privacy"


def test_the_budget_of_the_ledger_is_one_runs_epsilon_unless_said_otherwise() -> None:
    assert Policy.model_validate({"dp": {"max_epsilon": 3.0}}).dp.budget == 3.0
    assert Policy.model_validate({"dp": {"max_epsilon": 3.0, "budget_epsilon": 12.0}}).dp.budget == 12.0


def test_an_agent_without_a_ledger_answers_no_private_request() -> None:
    assert PlantAgent(sites()[0]).handle(agents.train(recipe=private())).texts["refused"] == "CP-603 privacy"


@pytest.mark.parametrize("texts", [{"kind": "spy"}, {"kind": None}, {"recipe": "{"}, {"recipe": None}])
def test_what_is_no_request_is_no_matter_of_policy(texts: dict[str, object]) -> None:
    with pytest.raises(BadPayload):
        judge(Policy(), changed(agents.train(), texts=texts), FACTS, NOW)


@pytest.mark.parametrize(
    "broken",
    [
        {"colour": 1},
        {"kinds": "train"},
        {"signers": ["SHA256:short"]},
        {"dp": {"required": "yes"}},
        {"dp": {"max_epsilon": float("inf")}},
        {"dp": {"budget_epsilon": 0}},
        {"dp": {"delta": 1.0}},
        {"dp": {"unit": 0.5}},
        {"budget": {"rounds_a_day": 0}},
        {"caps": {"windows": 1.5}},
        {"schema": "others"},
    ],
)
def test_a_policy_is_strict(broken: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Policy.model_validate(broken)


def test_the_digest_is_of_what_is_in_force(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("")
    (tmp_path / "b.toml").write_text("[budget]\nrounds_a_day = 10_000\n")
    (tmp_path / "c.toml").write_text("[budget]\nrounds_a_day = 9_999\n")
    a, b, c = (read_policy(tmp_path / f"{name}.toml").digest for name in "abc")
    assert a == b != c


# ---- signatures ------------------------------------------------------------------------------------------------------

KEYS: tuple[PrivateKey, ...] = (Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1()))
OTHER = Ed25519PrivateKey.generate()


def signed(
    key: PrivateKey, packet: Packet, until: datetime = TOMORROW, plants: tuple[str, ...] = ("north", "south")
) -> Packet:
    text = sign(key, Signed(packet.texts["run"], packet.texts["recipe"], "settings", plants), until)
    return changed(packet, texts={SIGNATURE: text})


@pytest.mark.parametrize("key", KEYS, ids=["ed25519", "p384"])
def test_a_run_signed_by_a_signer_is_served_and_named(key: PrivateKey) -> None:
    name = fingerprint(key.public_key())
    verdict = judge(Policy(signers=(name,)), signed(key, agents.train()), FACTS, NOW)
    assert (verdict.signer, verdict.kind) == (name, Kind.TRAIN)
    assert verdict.packet == agents.train()  # what was for the policy only goes no further


@pytest.mark.parametrize(
    "forged",
    [
        signed(OTHER, agents.train()),
        signed(KEYS[0], agents.train(), NOW - timedelta(hours=1)),
        changed(signed(KEYS[0], agents.train()), texts={"run": "another"}),
        signed(KEYS[0], agents.train(), plants=("south", "nort", "northh", "")),
        changed(
            signed(KEYS[0], agents.train()),
            texts={"recipe": agents.train(recipe=agents.with_training(seed=9)).texts["recipe"]},
        ),
        changed(agents.train(), texts={SIGNATURE: "v1.a.b.c"}),
        changed(agents.train(), texts={SIGNATURE: "v1." + "A" * 5000}),
        changed(agents.train(), texts={SIGNATURE: "\ud800.é.."}),
        agents.train(),
    ],
    ids=[
        "other key",
        "ended",
        "other run",
        "other plants",
        "other recipe",
        "no base64",
        "too long",
        "no text",
        "unsigned",
    ],
)
def test_a_run_that_no_signer_signed_is_refused(forged: Packet) -> None:
    assert refused({"signers": [fingerprint(KEYS[0].public_key())]}, forged) == "signer"


def test_every_changed_bit_of_a_signature_is_refused() -> None:
    what = Due("r", "recipe", "north")
    text = sign(KEYS[0], Signed("r", "recipe", "settings", ("north",)), TOMORROW)
    assert verify(text, what, NOW) == fingerprint(KEYS[0].public_key())
    ends = [at for at in range(len(text)) if at + 1 == len(text) or text[at + 1] == "."]  # some bits there are spare
    for at in sorted({*range(0, len(text), 7), *ends}):
        other = text[:at] + ("A" if text[at] != "A" else "B") + text[at + 1 :]
        with pytest.raises(BadPayload):
            verify(other, what, NOW)


def test_a_weaker_key_is_no_signer() -> None:
    weak = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(BadPayload, match="neither"):
        verify(sign(weak, SIGNED, TOMORROW), DUE, NOW)


SIGNED, DUE = Signed("r", "recipe", "settings", ("north", "south")), Due("r", "recipe", "north")


@pytest.mark.parametrize(
    ("due", "why"),
    [
        (Due("R", "recipe", "north"), "another run"),
        (Due("r", "recipe ", "north"), "another recipe"),
        (Due("r", "recipe", "west"), "other plants"),
        (Due("r", "recipe", ""), "other plants"),
    ],
)
def test_a_signature_is_good_for_one_run_one_recipe_and_its_plants(due: Due, why: str) -> None:
    text = sign(KEYS[0], SIGNED, TOMORROW)
    verify(text, DUE, NOW)
    with pytest.raises(BadPayload, match=why):
        verify(text, due, NOW)


def test_a_signature_ends_and_clocks_may_differ_by_five_minutes() -> None:
    text = sign(KEYS[0], SIGNED, TOMORROW)
    verify(text, DUE, TOMORROW + timedelta(minutes=5))
    with pytest.raises(BadPayload, match="ended at 2026-11-23T12:00Z"):
        verify(text, DUE, TOMORROW + timedelta(minutes=5, seconds=1))


def test_the_settings_are_signed_too_and_the_plants_names_are_not_told() -> None:
    texts = {sign(KEYS[0], replace(SIGNED, settings=digest), TOMORROW).split(".")[1] for digest in ("a", "b")}
    assert len(texts) == 2
    claim = base64.urlsafe_b64decode(texts.pop() + "==")
    assert b"north" not in claim
    assert b"south" not in claim


def remade(key: Ed25519PrivateKey, claim: str) -> str:
    """A signature that holds, over a claim that `sign` would not write."""
    made = key.sign(b"crossplant run v1\n" + claim.encode())
    public = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return ".".join(["v1", *(base64.urlsafe_b64encode(p).decode().rstrip("=") for p in (claim.encode(), public, made))])


@pytest.mark.parametrize(
    "change",
    [{"until": None}, {"until": 1e300}, {"until": "soon"}, {"plants": "north"}, {"plants": None}, {"more": 1}, None],
    ids=str,
)
def test_a_claim_of_another_form_is_none(change: dict[str, object] | None) -> None:
    whole = {**SIGNED.claim, "until": int(TOMORROW.timestamp())}
    assert verify(remade(OTHER, json.dumps(whole)), DUE, NOW) == fingerprint(OTHER.public_key())
    bad = "[]" if change is None else json.dumps(whole | change)
    with pytest.raises(BadPayload, match="over no claim"):
        verify(remade(OTHER, bad), DUE, NOW)


def test_a_signature_holds_two_thousand_plants_and_says_so_when_it_cannot() -> None:
    many = tuple(f"plant-{number}" for number in range(2_000))
    verify(sign(KEYS[0], replace(SIGNED, plants=many), TOMORROW), replace(DUE, plant="plant-1999"), NOW)
    with pytest.raises(InvalidConfig, match="4000 plants"):
        sign(KEYS[0], replace(SIGNED, plants=many + many), TOMORROW)


# ---- hours -----------------------------------------------------------------------------------------------------------

VIENNA = ZoneInfo("Europe/Vienna")


def opening(windows: list[str], local: str, zone: ZoneInfo = VIENNA) -> str | None:
    now = datetime.fromisoformat(local).replace(tzinfo=zone)
    found = next_opening(tuple(map(parse_window, windows)), zone, now)
    return None if found is None else f"{found.astimezone(zone):%a %H:%M}"


@pytest.mark.parametrize(
    ("windows", "local", "expected"),
    [
        (["Mon-Fri 18:00-06:00"], "2026-11-20T17:59", "Fri 18:00"),
        (["Mon-Fri 18:00-06:00"], "2026-11-20T18:00", None),
        (["Mon-Fri 18:00-06:00"], "2026-11-21T05:59", None),  # Friday's night ends on Saturday
        (["Mon-Fri 18:00-06:00"], "2026-11-21T06:00", "Mon 18:00"),
        (["Sat,Sun 00:00-24:00"], "2026-11-22T23:59", None),
        (["Sat,Sun 00:00-24:00"], "2026-11-23T00:00", "Sat 00:00"),
        (["Sat-Mon 10:00-11:00"], "2026-11-23T10:30", None),
        (["daily 22:00-05:30", "Wed 12:00-13:00"], "2026-11-25T11:00", "Wed 12:00"),
        (["daily 12:00-12:00"], "2026-11-25T11:00", None),  # a whole day from noon to noon
        (["Sun 01:00-05:00"], "2026-10-25T04:30", None),  # clocks go back at 3
        (["daily 02:30-02:40"], "2026-03-29T01:59", "Sun 03:30"),  # a time that is left out in spring
    ],
)
def test_when_a_plant_opens(windows: list[str], local: str, expected: str | None) -> None:
    assert opening(windows, local) == expected


@pytest.mark.parametrize(
    ("days", "span"),
    [
        ("", ""),
        ("nights", ""),
        ("Mon", "8:00-9:00"),
        ("Mon", "25:00-26:00"),
        ("Mon", "10:60-11:00"),
        ("Mon", "24:00-01:00"),
        ("Mon", "10:00-11:00 "),
        ("Foo", "10:00-11:00"),
        ("Mon-Tue-Wed", "10:00-11:00"),
        ("Mon,", "10:00-11:00"),
    ],
)
def test_windows_that_say_nothing(days: str, span: str) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_window(f"{days} {span}")


# ---- budget ----------------------------------------------------------------------------------------------------------


def test_a_day_and_a_run_have_so_many_rounds_and_a_restart_forgets_none(tmp_path: Path) -> None:
    def ledger() -> Ledger:
        return Ledger(tmp_path / "ledger.json", Budget(rounds_a_day=3, rounds_a_run=2))

    ledger().charge("a", "1", NOW)
    ledger().charge("a", "1", NOW)  # sent again: the answer is the same, and nothing is charged
    ledger().charge("a", "2", NOW)
    with pytest.raises(NotAllowed, match="the run has had 2 rounds"):
        ledger().charge("a", "3", NOW)
    ledger().charge("b", "1", NOW)
    with pytest.raises(NotAllowed, match="3 rounds were computed on 2026-11-22"):
        ledger().charge("b", "2", NOW)
    ledger().charge("b", "2", TOMORROW)
    assert [path.name for path in tmp_path.iterdir()] == ["ledger.json"]


def test_an_earlier_request_sent_again_is_charged(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json", Budget(rounds_a_run=2))
    for digest in ("1", "2"):
        ledger.charge("a", digest, NOW)
    with pytest.raises(NotAllowed):
        ledger.charge("a", "1", NOW)


def test_a_ledger_that_cannot_be_read_is_not_begun_anew(tmp_path: Path) -> None:
    (tmp_path / "ledger.json").write_text('{"days": {"2026-11-22": -5}}')
    with pytest.raises(AuditBroken, match=r"ledger\.json"):
        Ledger(tmp_path / "ledger.json", Budget())


def test_a_ledger_does_not_grow_with_the_names_of_runs(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.json", Budget())
    ledger._accounts = ledger._accounts.model_validate(
        {"runs": {f"r{i}": {"rounds": 1, "last": "", "day": "2026-01-01"} for i in range(5_000)}}
    )
    ledger.charge("x" * 10_000, "1", NOW)
    assert len(ledger._accounts.runs) == 5_000
    assert max(map(len, ledger._accounts.runs)) < 70


# ---- the guard -------------------------------------------------------------------------------------------------------


def guard(folder: Path, policy: Policy) -> tuple[Guard, AuditLog]:
    stop = CallStop()
    agent, log = PlantAgent(sites()[0], stop=stop), AuditLog(folder / "audit")
    return Guard(agent, policy, FACTS, Ledger(folder / "ledger.json", policy.budget), log, stop, lambda: NOW), log


@pytest.mark.parametrize(
    ("policy", "refused"),
    [
        ({}, None),
        ({"kinds": ["describe", "train", "cluster", "calibrate"]}, "CP-603 kind"),
        ({"hours": {"windows": ["Mon 00:00-24:00"]}}, "CP-603 hours"),
    ],
    ids=["default", "a list of an older version", "outside of its hours"],
)
def test_moments_are_judged_charged_and_logged_like_training(
    policy: dict[str, object], refused: str | None, tmp_path: Path
) -> None:
    keeper, log = guard(tmp_path, Policy.model_validate({"budget": {"rounds_a_run": 1}, **policy}))
    request = encode_request(Request(Kind.MOMENTS, "r", 2, agents.RECIPE))
    answers = [decode_frame(keeper.handle(encode_frame(request))) for _ in range(2)]  # the second one is a repetition
    later = decode_frame(keeper.handle(encode_frame(agents.train("r", 3))))
    assert [answer.texts.get("refused") for answer in answers] == [refused, refused]
    assert [set(answer.arrays) for answer in answers] == [set() if refused else {"moments"}] * 2
    if not refused:
        assert later.texts["refused"] == "CP-603 budget"
    lines = (tmp_path / "audit" / "audit.jsonl").read_text().splitlines()
    entry = json.loads(lines[0])
    assert (entry["kind"], entry["code"], entry["model"]) == ("moments", refused or "", "")
    assert log.mark.number == 3


def test_the_word_travels_and_the_reason_stays(tmp_path: Path) -> None:
    policy = Policy.model_validate({"budget": {"rounds_a_run": 1}, "caps": {"hidden": 8}})
    keeper, log = guard(tmp_path, policy)
    assert "refused" not in decode_frame(keeper.handle(encode_frame(agents.train("r", 2)))).texts
    reply = decode_frame(keeper.handle(encode_frame(agents.train("r", 3))))
    log.close()
    assert reply.texts == {
        "run": "r",
        "kind": "train",
        "model": agents.model().digest,
        "plant": "north",
        "refused": "CP-603 budget",
    }
    assert reply.numbers == {"round": 3, "protocol": 1}
    assert "as many as a run may have" in (tmp_path / "audit" / "audit.jsonl").read_text()


def test_the_server_reads_the_refusal_as_the_plants_own(tmp_path: Path) -> None:
    keeper, log = guard(tmp_path, Policy.model_validate({"kinds": ["describe"]}))
    reply = decode_frame(keeper.handle(encode_frame(agents.train("r", 3))))
    log.close()
    expected = Expectation(Kind.TRAIN, "r", 3, agents.model().digest, plant="north")
    assert parse_reply(reply, expected) == Rejected("north", "refused by the plant: CP-603 kind")


def test_a_bug_in_the_agent_is_a_code_without_its_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keeper, log = guard(tmp_path, Policy())

    def fail(*_: object) -> None:
        raise RuntimeError("LIT301 was 812.5 at noon")

    monkeypatch.setattr(PlantAgent, "answer", fail)
    answer = keeper.handle(encode_frame(agents.train()))
    log.close()
    assert decode_frame(answer).texts["refused"] == "CP-000 Unexpected"
    assert b"LIT301" not in answer
    assert "LIT301 was 812.5" in (tmp_path / "audit" / "audit.jsonl").read_text()


def test_a_hostile_head_is_logged_in_bounds(tmp_path: Path) -> None:
    keeper, log = guard(tmp_path, Policy())
    hostile = Packet({}, {"round": 10**40}, {"run": "x\n\x1b[31m" * 50_000, "kind": "train\n"})
    keeper.handle(encode_frame(hostile))
    log.close()
    (line,) = (tmp_path / "audit" / "audit.jsonl").read_text().splitlines()
    assert len(line) < 2_000
    assert "\\u001b" not in line
