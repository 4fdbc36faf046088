"""GPUs as telemetry tells of them. Stand-ins for the two vendors' libraries (there is no device
here), and the real libraries where there is nothing for them to find."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest

from agents.core.model.messages import Accelerator, Telemetry, is_degraded
from agents.observe import accelerators
from agents.observe.accelerators import AcceleratorWatch, Amd, Library, Nvidia, Unusable


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"NVML answers {value}")
        self.value = value


class Nvml(SimpleNamespace):
    """pynvml, as far as it is used. `broken`: which functions answer with which error."""

    NVMLError = NvmlError
    NVML_ERROR_GPU_IS_LOST, NOT_SUPPORTED, TIMEOUT = 15, 3, 10
    NVML_MEMORY_ERROR_TYPE_UNCORRECTED, NVML_VOLATILE_ECC, NVML_TEMPERATURE_GPU = 1, 0, 0
    nvmlEventTypeXidCriticalError = 8
    nvmlClocksEventReasonSwThermalSlowdown, nvmlClocksEventReasonHwThermalSlowdown = 0x20, 0x40
    nvmlClocksEventReasonHwPowerBrakeSlowdown = 0x80

    def __init__(self) -> None:
        super().__init__(
            devices=1, broken={}, ecc=0, reasons=0x4, temperature=41, xids=[], opened=0, closed=0
        )

    def _answer(self, name: str, value: Any) -> Any:
        if name in self.broken:
            raise NvmlError(self.broken[name])
        return value

    def nvmlInit(self) -> None:
        self._answer("nvmlInit", None)
        self.opened += 1

    def nvmlShutdown(self) -> None:
        self.closed += 1

    def nvmlDeviceGetCount(self) -> int:
        return int(self.devices)

    def nvmlDeviceGetHandleByIndex(self, i: int) -> str:
        return f"handle{i}"

    def nvmlDeviceGetName(self, _: str) -> bytes:
        return b"NVIDIA H100"

    def nvmlDeviceGetUUID(self, handle: str) -> str:
        return f"GPU-{handle}"

    def nvmlDeviceGetUtilizationRates(self, _: str) -> Any:
        return self._answer("rates", SimpleNamespace(gpu=40, memory=3))

    def nvmlDeviceGetMemoryInfo(self, _: str) -> Any:
        return self._answer("memory", SimpleNamespace(used=3 << 30, total=80 << 30))

    def nvmlDeviceGetPowerUsage(self, _: str) -> Any:
        return self._answer("power", 120_500)

    def nvmlDeviceGetTemperature(self, _: str, sensor: int) -> Any:
        return self._answer("temperature", self.temperature)

    def nvmlDeviceGetCurrentClocksEventReasons(self, _: str) -> Any:
        return self._answer("reasons", self.reasons)

    def nvmlDeviceGetTotalEccErrors(self, _: str, error: int, counter: int) -> Any:
        assert (error, counter) == (1, 0)
        return self._answer("ecc", self.ecc)

    def nvmlEventSetCreate(self) -> str:
        return str(self._answer("events", "events"))

    def nvmlDeviceRegisterEvents(self, handle: str, kinds: int, events: str) -> None:
        assert kinds == 8

    def nvmlEventSetWait_v2(self, events: str, timeout_ms: int) -> Any:
        assert timeout_ms == 0
        if not self.xids:
            raise NvmlError(self.TIMEOUT)
        return SimpleNamespace(device="handle0", eventData=self.xids.pop(0))


class AmdError(Exception):
    pass


class Smi(SimpleNamespace):
    """amdsmi, as far as it is used."""

    AmdSmiException = AmdError
    AmdSmiTemperatureType = SimpleNamespace(HOTSPOT=1)
    AmdSmiTemperatureMetric = SimpleNamespace(CURRENT=0)

    def __init__(self) -> None:
        super().__init__(
            ecc=0, hot=False, temperature=52, power={"average_socket_power": 310}, gone=False
        )

    def amdsmi_init(self) -> None: ...
    def amdsmi_shut_down(self) -> None: ...
    def amdsmi_get_processor_handles(self) -> list[int]:
        return [7]

    def amdsmi_get_gpu_asic_info(self, _: int) -> dict[str, str]:
        return {"market_name": "AMD Instinct MI300X"}

    def _answer(self, value: Any) -> Any:
        if self.gone:
            raise AmdError("AMDSMI_STATUS_NO_SLOT")
        return value

    def amdsmi_get_gpu_activity(self, _: int) -> Any:
        return self._answer({"gfx_activity": 75, "umc_activity": "N/A"})

    def amdsmi_get_gpu_vram_usage(self, _: int) -> Any:
        return self._answer({"vram_total": 196_592, "vram_used": 1_000})

    def amdsmi_get_power_info(self, _: int) -> Any:
        return self._answer({"current_socket_power": "N/A", **self.power})

    def amdsmi_get_gpu_total_ecc_count(self, _: int) -> Any:
        return self._answer({"correctable_count": 3, "uncorrectable_count": self.ecc})

    def amdsmi_get_violation_status(self, _: int) -> Any:
        return self._answer(
            {"active_prochot_thrm": "N/A", "active_socket_thrm": self.hot, "active_ppt_pwr": True}
        )

    def amdsmi_get_temp_metric(self, _: int, sensor: int, metric: int) -> Any:
        assert (sensor, metric) == (1, 0)
        return self._answer(self.temperature)


class Lines(list[tuple[str, dict[str, Any]]]):
    """A logger that keeps what it is told."""

    def info(self, event: str, **more: Any) -> None:
        self.append((event, more))

    warning = info


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> Lines:
    kept = Lines()
    monkeypatch.setattr(accelerators, "_log", kept)
    return kept


def only(library: Library) -> Accelerator:
    (device,) = library.read_devices()
    return device


def test_a_device_that_is_well_has_its_figures_and_no_faults() -> None:
    assert only(Nvidia(Nvml())) == Accelerator(
        "nvidia", "NVIDIA H100", 0.4, 3072.0, 81920.0, 41.0, 120.5
    )
    assert only(Amd(Smi())) == Accelerator(
        "amd", "AMD Instinct MI300X", 0.75, 1000.0, 196592.0, 52.0, 310.0
    )


def test_what_is_wrong_with_a_device_is_told_in_words() -> None:
    nvml, smi = Nvml(), Smi()
    nvidia, amd = Nvidia(nvml), Amd(smi)
    nvml.ecc, nvml.reasons, nvml.xids = 2, 0x40 | 0x80, [31, 79, 79]
    assert only(nvidia).faults == ("uncorrected_ecc", "xid_79", "slowed_heat", "slowed_power")
    nvml.ecc, nvml.reasons = 0, 0
    assert only(nvidia).faults == ("xid_79",), (
        "a broken device stays so; 31 is a program's own fault"
    )
    smi.ecc, smi.hot = 1, True
    assert only(amd).faults == ("uncorrected_ecc", "slowed_heat")


def test_a_power_cap_alone_is_no_fault() -> None:
    nvml = Nvml()
    nvml.reasons = 0x1 | 0x4
    assert only(Nvidia(nvml)).faults == ()


def test_what_a_device_does_not_support_is_unknown() -> None:
    nvml = Nvml()
    nvml.broken = dict.fromkeys(
        ("power", "temperature", "ecc", "events", "reasons"), Nvml.NOT_SUPPORTED
    )
    nvml.temperature = 65535
    assert only(Nvidia(nvml)) == Accelerator("nvidia", "NVIDIA H100", 0.4, 3072.0, 81920.0)


def test_figures_that_cannot_be_are_unknown() -> None:
    smi = Smi()
    smi.temperature, smi.power = 52_000, {"socket_power": 1e9}
    device = only(Amd(smi))
    assert (device.temperature_c, device.power_w) == (None, None)


def test_a_device_that_is_lost_or_silent_is_a_fault() -> None:
    nvml, smi = Nvml(), Smi()
    nvidia, amd = Nvidia(nvml), Amd(smi)
    nvml.broken = dict.fromkeys(("rates", "memory", "power", "temperature", "reasons", "ecc"), 15)
    smi.gone = True
    assert only(nvidia).faults == ("lost",)
    assert only(amd).faults == ("silent",)


def watch(*open_: Callable[[], Library], **options: float) -> AcceleratorWatch:
    return AcceleratorWatch([(f"vendor{i}", o) for i, o in enumerate(open_)], **options)


def test_a_library_that_fails_costs_one_line_and_its_recovery_another(lines: Lines) -> None:
    nvml = Nvml()
    seen = watch(lambda: Nvidia(nvml), lambda: Amd(Smi()), retry_s=60)
    nvml.broken = {"nvmlInit": 9}
    for now_s in range(0, 50, 2):
        seen.read_devices(now_s)
    assert [d.vendor for d in seen.latest()] == ["amd"], "the other vendor's device is still told"
    nvml.broken = {}
    seen.read_devices(60)
    assert [d.vendor for d in seen.latest()] == ["nvidia", "amd"]
    assert [event for event, _ in lines] == ["accelerators_unread", "accelerators_read"]
    assert lines[0][1] == {"vendor": "vendor0", "error": "NvmlError: NVML answers 9"}
    assert nvml.opened == 1


def test_a_library_that_fails_later_leaves_its_devices_silent_until_it_is_opened_again(
    monkeypatch: pytest.MonkeyPatch, lines: Lines
) -> None:
    nvml = Nvml()
    seen = watch(lambda: Nvidia(nvml), retry_s=60)
    seen.read_devices(0)
    assert seen.latest()[0].faults == ()
    monkeypatch.setattr(nvml, "nvmlDeviceGetMemoryInfo", lambda _: 1 / 0)
    seen.read_devices(2)
    seen.read_devices(4)
    assert seen.latest() == (Accelerator("nvidia", "NVIDIA H100", faults=("silent",)),)
    assert nvml.closed == 1
    monkeypatch.delattr(nvml, "nvmlDeviceGetMemoryInfo")
    seen.read_devices(62)
    assert seen.latest()[0].faults == ()
    assert [event for event, _ in lines] == ["accelerators_unread", "accelerators_read"]


class Stuck:
    """A library of which the second read hangs until it is let go."""

    vendor = "nvidia"

    def __init__(self) -> None:
        self.reads, self.go = 0, threading.Event()

    def read_devices(self) -> tuple[Accelerator, ...]:
        self.reads += 1
        if self.reads == 2:
            self.go.wait(30)
        return (Accelerator("nvidia", "H100", 0.5),)

    def close(self) -> None: ...


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_nobody_waits_for_a_driver_that_hangs(lines: Lines) -> None:
    stuck = Stuck()
    with watch(lambda: stuck, period_s=0.01, silent_s=0.2) as seen:
        until(lambda: seen.latest() != ())
        until(lambda: stuck.reads == 2)
        until(lambda: seen.latest() == (Accelerator("nvidia", "H100", 0.5, faults=("silent",)),))
        stuck.go.set()
        until(lambda: seen.latest() == (Accelerator("nvidia", "H100", 0.5),))
    assert [event for event, _ in lines] == ["accelerators_silent", "accelerators_answer_again"]


async def test_an_event_loop_never_waits_for_devices() -> None:
    stuck = Stuck()
    with watch(lambda: stuck, period_s=0.01) as seen:
        while stuck.reads < 2:
            await asyncio.sleep(0.005)
        assert seen.latest() == (Accelerator("nvidia", "H100", 0.5),)
    stuck.go.set()


def test_what_is_told_is_bounded() -> None:
    nvml = Nvml()
    nvml.devices = 1000
    seen = watch(lambda: Nvidia(nvml))
    seen.read_devices(0)
    assert len(seen.latest()) == 64


def test_without_a_library_nothing_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accelerators, "find_spec", lambda _: None)
    before = threading.active_count()
    seen = AcceleratorWatch()
    seen.start()
    assert (seen.latest(), threading.active_count()) == ((), before)
    seen.stop()


@pytest.mark.parametrize("library", [Nvidia, Amd])
def test_the_real_libraries_fail_cleanly_where_there_is_no_device(
    library: type[Nvidia] | type[Amd], capsys: pytest.CaptureFixture[str], lines: Lines
) -> None:
    """Where a device is (or a driver without one), they are read instead."""
    seen = watch(library)
    seen.read_devices(0)
    assert capsys.readouterr().out == ""
    assert [event for event, _ in lines] == ["accelerators_unread"] or all(
        d.name for d in seen.latest()
    )


def test_a_library_that_cannot_be_imported_says_what_it_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def import_it(_: str) -> Any:
        print("Unable to find libamd_smi.so")
        raise KeyError("libamd_smi.so")

    monkeypatch.setattr(accelerators, "import_module", import_it)
    monkeypatch.delitem(sys.modules, "amdsmi", raising=False)
    with pytest.raises(Unusable, match="Unable to find libamd_smi"):
        Amd()
    assert capsys.readouterr().out == ""


def test_a_device_with_a_fault_makes_its_node_degraded() -> None:
    well, broken = (
        Accelerator("nvidia", "H100", 0.5),
        Accelerator("amd", "MI300X", faults=("uncorrected_ecc", "lost")),
    )

    def said(*devices: Accelerator) -> Telemetry:
        return Telemetry("b", 1, "now", 0.1, 50.0, accelerators=devices)

    assert [is_degraded(x) for x in (None, said(), said(well), said(well, broken))] == [
        False,
        False,
        False,
        True,
    ]
