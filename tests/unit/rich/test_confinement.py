"""runtime.rich.confinement: whose AppArmor profile a rich container and all in it has."""

import pytest

from runtime import config
from runtime.agents.process import inside
from runtime.config.model import Hook, When
from runtime.hooks.process import hook_process
from runtime.rich import confinement, plan
from runtime.rich.confinement import DEFAULT
from tests.plans import recorded
from tests.unit.rich.test_plan import made, spec_of

NAMED = 'rich.apparmor-profile = "pouchrich"'


def spec_with(profile):
    spec = spec_of()
    spec["process"] |= {} if profile is None else {"apparmorProfile": profile}
    return spec


def decision(plan):
    return [(one.value, one.source) for one in plan.decisions if one.key == "apparmor-profile"]


def test_the_nodes_profile_is_in_place_of_containerds_default():
    spec = spec_with(DEFAULT)
    found = made(spec, body=NAMED)
    assert found.apply(spec)["process"]["apparmorProfile"] == "pouchrich"
    assert found.apparmor == "pouchrich"
    assert decision(found) == [("pouchrich", "/etc/c.toml: rich.apparmor-profile")]
    assert f"pouchrich, in place of {DEFAULT}" in [one.detail for one in found.steps if one.name == "apparmor-profile"]
    assert plan.Plan.from_dict(recorded(found)) == found
    assert spec["process"]["apparmorProfile"] == DEFAULT


@pytest.mark.parametrize(
    ("own", "said", "why"),
    [
        ("mine", '"mine"', f"the pod's own; /etc/c.toml: rich.apparmor-profile replaces {DEFAULT} alone"),
        ("unconfined", '"unconfined"', f"the pod's own; /etc/c.toml: rich.apparmor-profile replaces {DEFAULT} alone"),
        (7, "7", f"the pod's own; /etc/c.toml: rich.apparmor-profile replaces {DEFAULT} alone"),
        ("", "none", "the pod is unconfined, or AppArmor is not in force"),
        (None, "none", "the pod is unconfined, or AppArmor is not in force"),
    ],
)
def test_what_the_pod_has_asked_for_stays(own, said, why):
    spec = spec_with(own)
    found = made(spec, body=NAMED)
    assert found.apply(spec)["process"].get("apparmorProfile") == own
    assert (found.apparmor, decision(found)) == ("", [(said, why)])
    assert confinement.process_with_profile(spec["process"], "pouchrich") == spec["process"]


def test_without_the_key_nothing_is_changed_or_said():
    spec = spec_with(DEFAULT)
    found = made(spec)
    assert (found.apparmor, decision(found)) == ("", [])
    assert found.apply(spec)["process"]["apparmorProfile"] == DEFAULT
    assert confinement.spec_with_profile(spec, "") == spec
    assert confinement.process_with_profile(spec["process"], "") == spec["process"]


def test_a_container_that_is_not_rich_keeps_its_profile():
    found = made(spec_with(DEFAULT), body=f"{NAMED}\nrich.enabled = false")
    assert (found.rich, found.apparmor, found.steps) == (False, "", ())


def test_what_is_beside_the_application_has_it_too():
    spec = confinement.spec_with_profile(spec_with(DEFAULT), "pouchrich")
    hook = Hook("h", "container", ("/bin/x",), 1.0, "abort", None, (), False, When())
    assert hook_process(spec, hook, {})["apparmorProfile"] == "pouchrich"
    assert inside(spec, ("/bin/x",))["apparmorProfile"] == "pouchrich"


@pytest.mark.parametrize("name", ["unconfined", "", "a b", "x" * 256, "a\n"])
def test_a_name_that_is_none_is_an_error(name):
    with pytest.raises(
        config.document.InvalidArgument, match=r"rich\.apparmor-profile: found .* other than unconfined"
    ):
        config.parse(f"version = 1\nrich.apparmor-profile = {name!r}".replace("'", '"'), source="f")
