"""What a worker's accelerators mean for placing lanes: one that reports a fault makes its node degraded (DESIGN 7)."""

from __future__ import annotations

from agents.core.model import Telemetry

UTILISATION = (0.0, 1.0)
MEMORY_MB = (0.0, 1e9)
TEMPERATURE_C = (-100.0, 300.0)
POWER_W = (0.0, 1e5)
DEVICES_AT_MOST = 64
FAULTS_AT_MOST = 8


def degraded(telemetry: Telemetry | None) -> bool:
    """Whether any accelerator of the worker that sent this reports a fault. Nothing heard is nothing known: not degraded."""
    return telemetry is not None and any(device.faults for device in telemetry.accelerators)


def faults(telemetry: Telemetry | None) -> str:
    """For people: which device has which fault, `NVIDIA H100: xid_79, uncorrected_ecc`; empty when all are well."""
    if telemetry is None:
        return ""
    return "; ".join(f"{d.name}: {', '.join(d.faults)}" for d in telemetry.accelerators if d.faults)
