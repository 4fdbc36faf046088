"""Health of this machine's GPUs, for telemetry: NVIDIA's by NVML, AMD's by amdsmi. Nobody waits for
the drivers.

Drivers hang when a device is lost, and both libraries fail in their own ways without a driver. So
one daemon thread reads the devices, and everybody else takes its last result. This has never run on
a GPU: only against stand-ins, and against the real libraries on a machine without a device."""

from __future__ import annotations

import contextlib
import io
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from typing import Any, Protocol, Self

from agents.base import log
from agents.core.model import messages
from agents.core.model.messages import Accelerator

PERIOD_S = 2.0
RETRY_S = 60.0
SILENT_S = 10.0
MIB = 1 << 20
# Xids of a broken device; others are a program's own faults (NVIDIA, "XID Errors", catalogue of
# 2025).
BROKEN_XIDS = frozenset({48, 54, 62, 64, 74, 79, 92, 94, 95, 110, 119, 120, 140, 143})

_log = log.get_logger("accelerators")


class Unusable(Exception):
    """A library is installed but cannot be used, or a device can no longer be read. The message
    says why."""


class Library(Protocol):
    """One vendor's devices. The constructor opens the library. All calls block and come from one
    thread."""

    vendor: str

    def read_devices(self) -> tuple[Accelerator, ...]:
        """Each device's present state. May raise any error of the library."""

    def close(self) -> None:
        """May raise any error of the library."""


class Nvidia:
    """By NVML (nvidia-ml-py). `nvml`: its module, or a stand-in."""

    vendor = "nvidia"

    def __init__(self, nvml: Any = None) -> None:  # Any: the library has no types
        self._nvml = nvml = _import_library("pynvml") if nvml is None else nvml
        nvml.nvmlInit()
        self._handles = [
            nvml.nvmlDeviceGetHandleByIndex(i) for i in range(nvml.nvmlDeviceGetCount())
        ]
        self._names = [_decode_name(nvml.nvmlDeviceGetName(handle)) for handle in self._handles]
        self._xids: dict[str, set[int]] = {}  # by UUID
        self._events = self._register_xid_events()

    def read_devices(self) -> tuple[Accelerator, ...]:
        self._collect_xids()
        return tuple(
            self._read_device(handle, name)
            for handle, name in zip(self._handles, self._names, strict=True)
        )

    def close(self) -> None:
        self._nvml.nvmlShutdown()

    def _read_device(self, handle: Any, name: str) -> Accelerator:
        nvml, lost = self._nvml, []

        def read(function: str, *arguments: object) -> Any:
            try:
                return getattr(nvml, function)(handle, *arguments)
            except (
                nvml.NVMLError,
                AttributeError,
            ) as e:  # not supported by the device, or unknown to this version
                if getattr(e, "value", None) == nvml.NVML_ERROR_GPU_IS_LOST:
                    lost.append(function)
                return None

        rates = read("nvmlDeviceGetUtilizationRates")
        memory = read("nvmlDeviceGetMemoryInfo")
        power_mw = read("nvmlDeviceGetPowerUsage")
        reasons = read("nvmlDeviceGetCurrentClocksEventReasons")
        if reasons is None:
            reasons = read("nvmlDeviceGetCurrentClocksThrottleReasons") or 0
        ecc = read(
            "nvmlDeviceGetTotalEccErrors",
            nvml.NVML_MEMORY_ERROR_TYPE_UNCORRECTED,
            nvml.NVML_VOLATILE_ECC,
        )
        heat = (
            nvml.nvmlClocksEventReasonSwThermalSlowdown
            | nvml.nvmlClocksEventReasonHwThermalSlowdown
        )
        faults = [
            *(["lost"] if lost else []),
            *(["uncorrected_ecc"] if ecc else []),
            *(
                f"xid_{number}"
                for number in sorted(self._xids.get(read("nvmlDeviceGetUUID") or "", ()))
            ),
            *(["slowed_heat"] if reasons & heat else []),
            *(["slowed_power"] if reasons & nvml.nvmlClocksEventReasonHwPowerBrakeSlowdown else []),
        ]
        return _make_accelerator(
            self.vendor,
            name,
            utilisation=None if rates is None else rates.gpu / 100,
            mem_used_mb=None if memory is None else memory.used / MIB,
            mem_total_mb=None if memory is None else memory.total / MIB,
            temperature_c=read("nvmlDeviceGetTemperature", nvml.NVML_TEMPERATURE_GPU),
            power_w=None if power_mw is None else power_mw / 1000,
            faults=faults,
        )

    def _register_xid_events(self) -> Any:
        """A set of events that reports Xids, or None if the driver does not support it."""
        nvml = self._nvml
        try:
            events = nvml.nvmlEventSetCreate()
            for handle in self._handles:
                nvml.nvmlDeviceRegisterEvents(handle, nvml.nvmlEventTypeXidCriticalError, events)
        except (nvml.NVMLError, AttributeError):
            return None
        return events

    def _collect_xids(self) -> None:
        """Collect the Xids since the last call. A broken device stays broken until this process or
        its driver restarts."""
        nvml = self._nvml
        for _ in range(100 if self._events is not None else 0):
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = nvml.nvmlDeviceGetUUID(event.device)
            except nvml.NVMLError:  # usually: there is none waiting
                return
            if event.eventData in BROKEN_XIDS:
                self._xids.setdefault(uuid, set()).add(int(event.eventData))


class Amd:
    """By amdsmi (ROCm). `smi`: its module, or a stand-in. Without ROCm, importing it prints text
    and raises KeyError."""

    vendor = "amd"

    def __init__(self, smi: Any = None) -> None:  # Any: the library has no types
        self._smi = smi = _import_library("amdsmi") if smi is None else smi
        smi.amdsmi_init()
        self._handles = list(smi.amdsmi_get_processor_handles())
        self._names = [
            _decode_name(smi.amdsmi_get_gpu_asic_info(handle).get("market_name"))
            for handle in self._handles
        ]

    def read_devices(self) -> tuple[Accelerator, ...]:
        return tuple(
            self._read_device(handle, name)
            for handle, name in zip(self._handles, self._names, strict=True)
        )

    def close(self) -> None:
        self._smi.amdsmi_shut_down()

    def _read_device(self, handle: Any, name: str) -> Accelerator:
        smi = self._smi

        def read(function: str, *arguments: object) -> Any:
            try:
                return getattr(smi, function)(handle, *arguments)
            except (
                smi.AmdSmiException,
                AttributeError,
            ):  # not supported by the device, or unknown to this version
                return None

        activity = read("amdsmi_get_gpu_activity") or {}
        memory = read("amdsmi_get_gpu_vram_usage") or {}
        power = read("amdsmi_get_power_info") or {}
        ecc = read("amdsmi_get_gpu_total_ecc_count") or {}
        slowed = read("amdsmi_get_violation_status") or {}
        busy = _number_or_none(activity.get("gfx_activity"))
        watts = (
            _number_or_none(power.get(key))
            for key in ("current_socket_power", "average_socket_power", "socket_power")
        )
        hot = any(
            slowed.get(f"active_{part}_thrm") is True for part in ("prochot", "socket", "vr", "hbm")
        )
        faults = [
            *(["uncorrected_ecc"] if _number_or_none(ecc.get("uncorrectable_count")) else []),
            *(["slowed_heat"] if hot else []),
        ]
        return _make_accelerator(
            self.vendor,
            name,
            utilisation=None if busy is None else busy / 100,
            mem_used_mb=_number_or_none(memory.get("vram_used")),
            mem_total_mb=_number_or_none(memory.get("vram_total")),
            temperature_c=_number_or_none(
                read(
                    "amdsmi_get_temp_metric",
                    smi.AmdSmiTemperatureType.HOTSPOT,
                    smi.AmdSmiTemperatureMetric.CURRENT,
                )
            ),
            power_w=next((w for w in watts if w is not None), None),
            faults=faults,
        )


@dataclass(slots=True)
class _Vendor:
    """The state of one library. `told`: its failure has been logged."""

    open: Callable[[], Library]
    name: str
    library: Library | None = None
    seen: tuple[Accelerator, ...] = ()
    retry_at_s: float = 0.0
    told: bool = False


class AcceleratorWatch:
    """Reads all devices of this machine every `period_s`: `with AcceleratorWatch() as devices`, or
    `start` and `stop`. Ask for the `latest` at any time."""

    def __init__(
        self,
        libraries: Sequence[tuple[str, Callable[[], Library]]] | None = None,
        *,
        period_s: float = PERIOD_S,
        retry_s: float = RETRY_S,
        silent_s: float = SILENT_S,
    ) -> None:
        installed = [
            (n, o)
            for n, m, o in (("nvidia", "pynvml", Nvidia), ("amd", "amdsmi", Amd))
            if find_spec(m)
        ]
        self._vendors = [
            _Vendor(o, name) for name, o in (installed if libraries is None else libraries)
        ]
        self._period_s, self._retry_s, self._silent_s = period_s, retry_s, silent_s
        self._seen: tuple[Accelerator, ...] = ()
        self._seen_at_s = time.monotonic()
        self._silent = False
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to read the devices, if a library is installed (the extras `gpu-cuda` and
        `gpu-rocm` install them)."""
        if self._vendors:
            threading.Thread(
                target=self._read_until_stopped, name="accelerators", daemon=True
            ).start()

    def stop(self) -> None:
        """Does not wait: a driver that hangs must not keep the process alive."""
        self._ended.set()

    def latest(self) -> tuple[Accelerator, ...]:
        """The last result, at once. If it is older than `silent_s`, each device has the fault
        `silent`."""
        seen = self._seen
        silent = bool(seen) and time.monotonic() - self._seen_at_s > self._silent_s
        if silent != self._silent:
            self._silent = silent
            _log.warning("accelerators_silent" if silent else "accelerators_answer_again")
        return tuple(replace(x, faults=(*x.faults, "silent")) for x in seen) if silent else seen

    def read_devices(self, now_s: float) -> None:
        """Read the devices once, in the caller's thread. Never raises."""
        for vendor in self._vendors:
            self._read_vendor(vendor, now_s)
        self._seen = tuple(x for vendor in self._vendors for x in vendor.seen)[
            : messages.DEVICES_AT_MOST
        ]
        self._seen_at_s = time.monotonic()

    def _read_vendor(self, vendor: _Vendor, now_s: float) -> None:
        if vendor.library is None and now_s < vendor.retry_at_s:
            return
        try:
            if vendor.library is None:
                vendor.library = vendor.open()
            seen = vendor.library.read_devices()
        except Exception as e:  # noqa: BLE001 - a foreign library: any failure of it is a device that cannot be read
            if vendor.library is not None:
                with contextlib.suppress(Exception):
                    vendor.library.close()
            vendor.library, vendor.retry_at_s = None, now_s + self._retry_s
            vendor.seen = tuple(
                Accelerator(x.vendor, x.name, faults=("silent",)) for x in vendor.seen
            )
            if not vendor.told:
                vendor.told = True
                _log.warning(
                    "accelerators_unread",
                    vendor=vendor.name,
                    error=f"{type(e).__name__}: {e}"[:300],
                )
            return
        vendor.seen = seen
        if vendor.told:
            vendor.told = False
            _log.info("accelerators_read", vendor=vendor.name, messages=len(seen))

    def _read_until_stopped(self) -> None:
        while not self._ended.is_set():
            self.read_devices(time.monotonic())
            self._ended.wait(self._period_s)
        for vendor in self._vendors:
            if vendor.library is not None:
                with contextlib.suppress(Exception):
                    vendor.library.close()


def _import_library(name: str) -> Any:
    """The library's module. What it prints while it is imported is part of the error. Raises
    Unusable."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stdout(said):
            return import_module(name)
    except Exception as e:  # amdsmi raises KeyError if its shared library is not found
        words = " ".join(said.getvalue().split())
        raise Unusable(f"{name} cannot be imported: {words or e}") from e


def _make_accelerator(
    vendor: str,
    name: str,
    *,
    utilisation: float | None,
    mem_used_mb: float | None,
    mem_total_mb: float | None,
    temperature_c: float | None,
    power_w: float | None,
    faults: Sequence[str],
) -> Accelerator:
    """An Accelerator whose figures outside their range count as unknown: drivers write 65535, or
    millidegrees. A device without any readable figure is `silent`."""
    figures = (
        _within_or_none(utilisation, messages.UTILISATION),
        _within_or_none(mem_used_mb, messages.MEMORY_MB),
        _within_or_none(mem_total_mb, messages.MEMORY_MB),
        _within_or_none(temperature_c, messages.TEMPERATURE_C),
        _within_or_none(power_w, messages.POWER_W),
    )
    if not faults and all(x is None for x in figures):
        faults = ("silent",)
    return Accelerator(vendor, name, *figures, faults=tuple(faults[: messages.FAULTS_AT_MOST]))


def _within_or_none(value: float | None, limits: tuple[float, float]) -> float | None:
    return float(value) if value is not None and limits[0] <= value <= limits[1] else None


def _number_or_none(value: object) -> float | None:
    """A number from a figure that may be the word N/A."""
    return float(value) if isinstance(value, (int, float)) else None


def _decode_name(value: object) -> str:
    return (value.decode(errors="replace") if isinstance(value, bytes) else str(value or "GPU"))[
        :128
    ]
