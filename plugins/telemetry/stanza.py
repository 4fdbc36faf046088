"""`<telemetry/>` <-> Telemetry. It uses ElementTree, since the coordinator reads one a second from
every worker."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from slixmpp.xmlstream import ElementBase

from agents.core.model import messages
from agents.core.model.messages import Accelerator, Arrival, LaneLoad, Telemetry
from plugins import namespaces as ns
from plugins.values import BadStanza, clean, integer, number, sentence, show, topic, word

PREFIX = "telemetry/"
LANES_LIMIT = 10_000
PIPELINE_LIMIT = 200
NAME_LIMIT = 128
FAULT_LIMIT = 300  # characters of a fault that are sent

_FIGURES = {
    "utilisation": messages.UTILISATION,
    "mem_used_mb": messages.MEMORY_MB,
    "mem_total_mb": messages.MEMORY_MB,
    "temperature_c": messages.TEMPERATURE_C,
    "power_w": messages.POWER_W,
}


class TelemetryStanza(ElementBase):  # type: ignore[misc]
    """One item of `telemetry/ROLE-NAME`. Only routers send `<arrival/>`. An `<accelerator/>` omits
    unknown figures.

    ::

        <telemetry xmlns='urn:geolane:telemetry:1' boot='01JD8Q' seq='812'
          ts='2026-11-22T22:08:11.204Z'
                   tuning='17' cpu='0.61' mem_mb='88' pipeline='mine:pipeline@3f2a91c0'>
         <lane topic='main/events.lanes' n='12' epoch='7' rate_eps='812.5'
               lag_events='40' p50_ms='3.1'
               p99_ms='9.4'/>
         <arrival n='12' rate_eps='815'/>
         <accelerator vendor='nvidia' name='NVIDIA H100' utilisation='0.4'
                      mem_used_mb='3100' mem_total_mb='81559'
                      temperature_c='41' power_w='120' faults='xid_79 slowed_heat'/>
        </telemetry>
    """

    name = "telemetry"
    namespace = ns.TELEMETRY
    plugin_attrib = "geolane_telemetry"
    interfaces = {"boot", "seq", "ts", "tuning", "cpu", "mem_mb", "pipeline"}  # noqa: RUF012  # slixmpp's form


def telemetry_feed(worker: str) -> str:
    """The feed on which only `worker` publishes."""
    return PREFIX + worker


def telemetry_xml(value: Telemetry) -> ET.Element:
    """The element to publish."""
    root = ET.Element(
        f"{{{ns.TELEMETRY}}}telemetry",
        boot=value.boot,
        seq=str(value.seq),
        ts=clean(value.ts),
        tuning=str(value.tuning),
        cpu=show(value.cpu),
        mem_mb=show(value.mem_mb),
    )
    if value.pipeline:
        root.set("pipeline", clean(value.pipeline)[:PIPELINE_LIMIT])
    for lane in value.lanes:
        attributes = {
            "topic": lane.topic,
            "n": str(lane.n),
            "epoch": str(lane.epoch),
            "rate_eps": show(lane.rate_eps),
            "lag_events": str(lane.lag_events),
            "p50_ms": show(lane.p50_ms),
            "p99_ms": show(lane.p99_ms),
        }
        if lane.fault:
            attributes["fault"] = clean(lane.fault)[:FAULT_LIMIT]
        ET.SubElement(root, f"{{{ns.TELEMETRY}}}lane", attributes)
    for arrival in value.arrivals:
        ET.SubElement(
            root, f"{{{ns.TELEMETRY}}}arrival", n=str(arrival.n), rate_eps=show(arrival.rate_eps)
        )
    for device in value.accelerators[: messages.DEVICES_AT_MOST]:
        ET.SubElement(root, f"{{{ns.TELEMETRY}}}accelerator", _attributes(device))
    return root


def _attributes(device: Accelerator) -> dict[str, str]:
    said = {"vendor": device.vendor, "name": clean(device.name)[:NAME_LIMIT]}
    said |= {name: show(x) for name in _FIGURES if (x := getattr(device, name)) is not None}
    if device.faults:
        said["faults"] = " ".join(device.faults[: messages.FAULTS_AT_MOST])
    return said


def telemetry_of(root: ET.Element) -> Telemetry:
    """The value of a `<telemetry/>`. Raises BadStanza."""
    if root.tag != f"{{{ns.TELEMETRY}}}telemetry":
        raise BadStanza("telemetry: not the expected element")
    if len(root) > LANES_LIMIT:
        raise BadStanza(f"telemetry: more than {LANES_LIMIT} lanes")
    return Telemetry(
        boot=word(root.get("boot"), "boot"),
        seq=integer(root.get("seq"), "seq"),
        ts=sentence(root.get("ts"), 64),
        cpu=number(root.get("cpu"), "cpu"),
        mem_mb=number(root.get("mem_mb"), "mem_mb"),
        tuning=integer(root.get("tuning", "0"), "tuning"),
        lanes=tuple(_lane(x) for x in root.iterfind(f"{{{ns.TELEMETRY}}}lane")),
        arrivals=tuple(
            Arrival(integer(x.get("n"), "n"), number(x.get("rate_eps"), "rate_eps"))
            for x in root.iterfind(f"{{{ns.TELEMETRY}}}arrival")
        ),
        accelerators=_accelerators(root),
        pipeline=sentence(root.get("pipeline"), PIPELINE_LIMIT),
    )


def _accelerators(root: ET.Element) -> tuple[Accelerator, ...]:
    found = root.findall(f"{{{ns.TELEMETRY}}}accelerator")
    if len(found) > messages.DEVICES_AT_MOST:
        raise BadStanza(f"accelerator: more than {messages.DEVICES_AT_MOST} of them")
    return tuple(_accelerator(x) for x in found)


def _accelerator(x: ET.Element) -> Accelerator:
    faults = x.get("faults", "").split()
    if len(faults) > messages.FAULTS_AT_MOST:
        raise BadStanza(f"faults: more than {messages.FAULTS_AT_MOST} words")
    return Accelerator(
        word(x.get("vendor"), "vendor"),
        sentence(x.get("name"), NAME_LIMIT),
        **{
            n: number(x.get(n), n, low, high)
            for n, (low, high) in _FIGURES.items()
            if x.get(n) is not None
        },
        faults=tuple(word(f, "faults") for f in faults),
    )


def _lane(x: ET.Element) -> LaneLoad:
    return LaneLoad(
        topic=topic(x.get("topic"), "topic"),
        n=integer(x.get("n"), "n"),
        epoch=integer(x.get("epoch"), "epoch"),
        rate_eps=number(x.get("rate_eps"), "rate_eps"),
        lag_events=integer(x.get("lag_events"), "lag_events"),
        p50_ms=number(x.get("p50_ms"), "p50_ms"),
        p99_ms=number(x.get("p99_ms"), "p99_ms"),
        fault=sentence(x.get("fault"), FAULT_LIMIT),
    )
