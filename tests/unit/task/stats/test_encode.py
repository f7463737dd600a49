"""What is encoded by hand, held against the generated classes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from protos.gen import cgroups_v1_pb2, cgroups_v2_pb2
from runtime.cgroup import Cgroup
from shim.task.stats import encode, v1, v2
from shim.task.stats.metrics import Metrics

UINT64 = st.one_of(st.sampled_from([0, 1, 127, 128, 255, 256, 2**63, 2**64 - 1]), st.integers(0, 2**64 - 1))
V1, V2 = cgroups_v1_pb2.Metrics, cgroups_v2_pb2.Metrics
ENCODERS = {
    **{name: (V1, how) for _, name, how in v1._FILES},
    **{f"blkio {field}": (V1, how) for field, how in v1._BLKIO_ENCODE.items()},
    **{f"v2 {name}": (V2, how) for name, how in v2._FILES},
}


@pytest.mark.parametrize(
    ("message", "fields", "table"),
    [
        (cgroups_v1_pb2.MemoryStat, V1, v1._MEMORY_STAT),
        (cgroups_v2_pb2.MemoryStat, V2, {name: name for name in v2._MEMORY_STAT}),
    ],
)
@given(data=st.data())
def test_memory_stat_is_what_its_lines_say(message, fields, table, data):
    values = data.draw(st.dictionaries(st.sampled_from(sorted(table)), UINT64, min_size=1))
    how = encode.keyed((v1 if fields is V1 else v2)._MEMORY, table)
    text = "".join(f"{key} {value}\n" for key, value in values.items()).encode()
    expected = message(**{table[key]: value for key, value in values.items()})
    assert fields.FromString(how(text)) == fields(memory=expected)


@given(UINT64, UINT64, UINT64)
def test_parts_of_one_message_are_merged(usage, limit, failcnt):
    how = {name: how for _, name, how in v1._FILES}
    texts = {"memory.usage_in_bytes": usage, "memory.limit_in_bytes": limit, "memory.memsw.failcnt": failcnt}
    joined = b"".join(how[name](b"%d\n" % value) for name, value in texts.items())
    memory = {"usage": {"usage": usage, "limit": limit}, "swap": {"failcnt": failcnt}}
    assert V1.FromString(joined) == V1(memory=memory)


@given(st.lists(UINT64, min_size=1, max_size=300))
def test_the_time_of_each_processor_is_a_packed_field(values):
    how = next(how for _, name, how in v1._FILES if name == "cpuacct.usage_percpu")
    text = " ".join(map(str, values)).encode() + b" \n"
    assert V1.FromString(how(text)) == V1(cpu={"usage": {"per_cpu": values}})


@given(st.integers(0, 10000), st.integers(0, 10000), st.integers(0, 10000), UINT64)
def test_pressure_is_what_its_lines_say(avg10, avg60, avg300, total):
    words = [f"{value // 100}.{value % 100:02}" for value in (avg10, avg60, avg300)]
    line = f"some avg10={words[0]} avg60={words[1]} avg300={words[2]} total={total}\n"
    data = {"avg10": float(words[0]), "avg60": float(words[1]), "avg300": float(words[2]), "total": total}
    how = encode.pressure(v2.METRICS.within("io").within("psi"))
    expected = V2(io={"psi": {"some": data, "full": data}})
    assert V2.FromString(how((line + line.replace("some", "full")).encode())) == expected


WORDS = st.sampled_from([b"Read", b"some", b"8:0", b"anon", b"max", b"m", b"avg10=", b"1", b"\xff", b"=", b" ", b"\n"])


@given(st.sampled_from(sorted(ENCODERS)), st.one_of(st.binary(max_size=40), st.lists(WORDS).map(b"".join)))
def test_any_text_gives_a_message(name, text):
    message, how = ENCODERS[name]
    message.FromString(how(text))


def everything(descriptor, without=("network", "cgroup_stats")):
    """Paths of all fields."""
    for field in descriptor.fields:
        if field.name not in without:
            yield field.name
            if field.message_type is not None:
                yield from (f"{field.name}.{inner}" for inner in everything(field.message_type))


def found_in(message):
    for field, value in message.ListFields():
        yield field.name
        if field.message_type is not None:
            for one in [value] if hasattr(value, "ListFields") else value:
                yield from (f"{field.name}.{inner}" for inner in found_in(one))


def test_every_field_of_v2_comes_from_some_file(tree):
    pressure = "some avg10=1.50 avg60=1.00 avg300=1.00 total=1\nfull avg10=1.00 avg60=1.00 avg300=1.00 total=1\n"
    texts = {name: "7\n" for name, _ in v2._FILES}
    texts |= {f"{kind}.pressure": pressure for kind in ("cpu", "memory", "io")}
    texts["cpu.stat"] = "".join(f"{name} 1\n" for name in v2._CPU_STAT)
    texts["memory.stat"] = "".join(f"{name} 1\n" for name in v2._MEMORY_STAT)
    texts["memory.events"] = "".join(f"{name} 1\n" for name in v2._MEMORY_EVENTS)
    texts["io.stat"] = "8:1 rbytes=1 wbytes=2 rios=3 wios=4\n"
    texts |= {f"rdma.{name}": "m hca_handle=1 hca_object=2\n" for name in ("current", "max")}
    texts |= {"hugetlb.2MB.current": "1\n", "hugetlb.2MB.max": "2\n", "hugetlb.2MB.events": "max 3\n"}
    answer = Metrics(Cgroup(unified=tree(texts))).to_any()
    assert set(everything(V2.DESCRIPTOR)) - set(found_in(V2.FromString(answer.value))) == set()


def test_every_field_of_v1_comes_from_some_file(tree, monkeypatch):
    texts = {f"{controller}/{name}": "7\n" for controller, name, _ in v1._FILES}
    texts["cpuacct/cpuacct.stat"] = "user 1\nsystem 1\n"
    texts["cpu/cpu.stat"] = "nr_periods 1\nnr_throttled 1\nthrottled_time 1\n"
    texts["memory/memory.stat"] = "".join(f"{name} 1\n" for name in v1._MEMORY_STAT)
    texts["memory/memory.oom_control"] = "oom_kill_disable 1\nunder_oom 1\noom_kill 1\n"
    texts |= {f"rdma/rdma.{name}": "m hca_handle=1 hca_object=2\n" for name in ("current", "max")}
    texts |= {f"blkio/{names[-1]}": "8:1 Read 7\n" for names in v1._BLKIO_FILES.values()}
    texts |= {f"hugetlb/hugetlb.2MB.{end}": "1\n" for end in ("usage_in_bytes", "max_usage_in_bytes", "failcnt")}
    monkeypatch.setattr(v1.os, "readlink", lambda path: "../../devices/sda")
    root = tree(texts)
    names = ("pids", "cpu", "cpuacct", "memory", "blkio", "rdma", "hugetlb")
    answer = Metrics(Cgroup(controllers=tuple((name, f"{root}/{name}") for name in names))).to_any()
    found = V1.FromString(answer.value)
    assert set(everything(V1.DESCRIPTOR)) - set(found_in(found)) == set()
    assert found.blkio.io_time_recursive[0].device == "/dev/sda"
