"""Agents for tests, from what a test cares about."""

from runtime.agents.select import Selected
from runtime.config.model import Agent, AgentMount, When
from runtime.image.passwd import User

ROOT = User(0, 0, (), "root", "/root")


def agent(name="probe", command=("/opt/probe/bin/probe",), **more):
    fields = {"mounts": (), "restart": "always", "memory_bytes": None, "user": None, "env": (), "mandatory": False}
    return Agent(name, tuple(command), **{**fields, "when": When(), **more})


def selected(who=ROOT, **more):
    return Selected(agent(**more), "agents[0]", who)


def bind(source="/srv/probe", target="/opt/probe", read_only=True):
    return AgentMount(source, target, read_only)
