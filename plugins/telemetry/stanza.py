"""`<telemetry/>` <-> Telemetry. It uses ElementTree, since the coordinator reads one a second from
every worker."""

from __future__ import annotations

import xml.etree.ElementTree as ET

from slixmpp.xmlstream import ElementBase

from agents.core.model import messages
from agents.core.model.messages import Accelerator, Arrival, LaneLoad, PathReport, Telemetry
from plugins import namespaces as ns
from plugins.values import (
    BadStanza,
    format_number,
    parse_integer,
    parse_number,
    parse_sentence,
    parse_topic,
    parse_word,
    replace_invalid_xml,
)

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
         <path broker='2' rtt_ms='12.6' min_ms='12.1' probes='15' age_s='2'/>
        </telemetry>
    """

    name = "telemetry"
    namespace = ns.TELEMETRY
    plugin_attrib = "geolane_telemetry"
    interfaces = {"boot", "seq", "ts", "tuning", "cpu", "mem_mb", "pipeline"}  # noqa: RUF012  # slixmpp's form


def feed_of_worker(worker: str) -> str:
    """The feed on which only `worker` publishes."""
    return PREFIX + worker


def telemetry_to_xml(value: Telemetry) -> ET.Element:
    """The element to publish."""
    root = ET.Element(
        f"{{{ns.TELEMETRY}}}telemetry",
        boot=value.boot,
        seq=str(value.seq),
        ts=replace_invalid_xml(value.ts),
        tuning=str(value.tuning),
        cpu=format_number(value.cpu),
        mem_mb=format_number(value.mem_mb),
    )
    if value.pipeline:
        root.set("pipeline", replace_invalid_xml(value.pipeline)[:PIPELINE_LIMIT])
    for lane in value.lanes:
        attributes = {
            "topic": lane.topic,
            "n": str(lane.n),
            "epoch": str(lane.epoch),
            "rate_eps": format_number(lane.rate_eps),
            "lag_events": str(lane.lag_events),
            "p50_ms": format_number(lane.p50_ms),
            "p99_ms": format_number(lane.p99_ms),
        }
        if lane.fault:
            attributes["fault"] = replace_invalid_xml(lane.fault)[:FAULT_LIMIT]
        ET.SubElement(root, f"{{{ns.TELEMETRY}}}lane", attributes)
    for arrival in value.arrivals:
        ET.SubElement(
            root,
            f"{{{ns.TELEMETRY}}}arrival",
            n=str(arrival.n),
            rate_eps=format_number(arrival.rate_eps),
        )
    for device in value.accelerators[: messages.DEVICES_AT_MOST]:
        ET.SubElement(root, f"{{{ns.TELEMETRY}}}accelerator", _accelerator_to_attributes(device))
    for path in value.paths[: messages.PATHS_AT_MOST]:
        ET.SubElement(
            root,
            f"{{{ns.TELEMETRY}}}path",
            broker=str(path.broker),
            rtt_ms=format_number(path.rtt_ms),
            min_ms=format_number(path.min_ms),
            probes=str(path.probes),
            age_s=format_number(path.age_s),
        )
    return root


def _accelerator_to_attributes(device: Accelerator) -> dict[str, str]:
    said = {"vendor": device.vendor, "name": replace_invalid_xml(device.name)[:NAME_LIMIT]}
    said |= {
        name: format_number(x) for name in _FIGURES if (x := getattr(device, name)) is not None
    }
    if device.faults:
        said["faults"] = " ".join(device.faults[: messages.FAULTS_AT_MOST])
    return said


def telemetry_from_xml(root: ET.Element) -> Telemetry:
    """The value of a `<telemetry/>`. Raises BadStanza."""
    if root.tag != f"{{{ns.TELEMETRY}}}telemetry":
        raise BadStanza("telemetry: not the expected element")
    if len(root) > LANES_LIMIT:
        raise BadStanza(f"telemetry: more than {LANES_LIMIT} lanes")
    return Telemetry(
        boot=parse_word(root.get("boot"), "boot"),
        seq=parse_integer(root.get("seq"), "seq"),
        ts=parse_sentence(root.get("ts"), 64),
        cpu=parse_number(root.get("cpu"), "cpu"),
        mem_mb=parse_number(root.get("mem_mb"), "mem_mb"),
        tuning=parse_integer(root.get("tuning", "0"), "tuning"),
        lanes=tuple(_lane_from_xml(x) for x in root.iterfind(f"{{{ns.TELEMETRY}}}lane")),
        arrivals=tuple(
            Arrival(parse_integer(x.get("n"), "n"), parse_number(x.get("rate_eps"), "rate_eps"))
            for x in root.iterfind(f"{{{ns.TELEMETRY}}}arrival")
        ),
        accelerators=_accelerators_from_xml(root),
        pipeline=parse_sentence(root.get("pipeline"), PIPELINE_LIMIT),
        paths=_paths_from_xml(root),
    )


def _accelerators_from_xml(root: ET.Element) -> tuple[Accelerator, ...]:
    found = root.findall(f"{{{ns.TELEMETRY}}}accelerator")
    if len(found) > messages.DEVICES_AT_MOST:
        raise BadStanza(f"accelerator: more than {messages.DEVICES_AT_MOST} of them")
    return tuple(_accelerator_from_xml(x) for x in found)


def _accelerator_from_xml(x: ET.Element) -> Accelerator:
    faults = x.get("faults", "").split()
    if len(faults) > messages.FAULTS_AT_MOST:
        raise BadStanza(f"faults: more than {messages.FAULTS_AT_MOST} words")
    return Accelerator(
        parse_word(x.get("vendor"), "vendor"),
        parse_sentence(x.get("name"), NAME_LIMIT),
        **{
            n: parse_number(x.get(n), n, low, high)
            for n, (low, high) in _FIGURES.items()
            if x.get(n) is not None
        },
        faults=tuple(parse_word(f, "faults") for f in faults),
    )


def _paths_from_xml(root: ET.Element) -> tuple[PathReport, ...]:
    found = root.findall(f"{{{ns.TELEMETRY}}}path")
    if len(found) > messages.PATHS_AT_MOST:
        raise BadStanza(f"path: more than {messages.PATHS_AT_MOST} of them")
    paths = tuple(
        PathReport(
            parse_integer(x.get("broker"), "broker", 0, 2**31 - 1),
            parse_number(x.get("rtt_ms"), "rtt_ms", *messages.RTT_MS),
            parse_number(x.get("min_ms"), "min_ms", *messages.RTT_MS),
            parse_integer(x.get("probes"), "probes", *messages.PROBES),
            parse_number(x.get("age_s"), "age_s", *messages.PROBE_AGE_S),
        )
        for x in found
    )
    if len({path.broker for path in paths}) < len(paths):
        raise BadStanza("path: a broker is listed twice")
    return paths


def _lane_from_xml(x: ET.Element) -> LaneLoad:
    return LaneLoad(
        topic=parse_topic(x.get("topic"), "topic"),
        n=parse_integer(x.get("n"), "n"),
        epoch=parse_integer(x.get("epoch"), "epoch"),
        rate_eps=parse_number(x.get("rate_eps"), "rate_eps"),
        lag_events=parse_integer(x.get("lag_events"), "lag_events"),
        p50_ms=parse_number(x.get("p50_ms"), "p50_ms"),
        p99_ms=parse_number(x.get("p99_ms"), "p99_ms"),
        fault=parse_sentence(x.get("fault"), FAULT_LIMIT),
    )
