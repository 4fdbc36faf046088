// Traffic, lag and latency over time, since the page was opened: up to an hour.
import { SERIES, format } from "./fleet.js";
import uPlot from "./lib/uplot/uPlot.esm.js";

const HEIGHT = 130;
const CHARTS = [
    { id: "traffic", unit: "events/s", lines: [["in", "arrival_eps", "--line-1", []], ["processed", "rate_eps", "--line-2", [6, 3]]] },
    { id: "lag", unit: "events", lines: [["lag", "lag_events", "--line-1", []]] },
    { id: "latency", unit: "ms", lines: [["p50", "p50_ms", "--line-2", [6, 3]], ["p99", "p99_ms", "--line-1", []]] },
];

export class Charts {
    constructor(root) {
        this.charts = CHARTS.map((chart) => ({ ...chart, figure: root.querySelector(`#${chart.id}`) }));
        this.build();
        new ResizeObserver(() => this.resize()).observe(root);
        matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.build());
    }

    build() {
        const style = getComputedStyle(document.body);
        const ink = style.getPropertyValue("--text").trim();
        const grid = { stroke: style.getPropertyValue("--rule").trim(), width: 1 };
        for (const chart of this.charts) {
            const box = chart.figure.querySelector("div");
            chart.plot?.destroy();
            chart.plot = new uPlot(
                {
                    width: box.clientWidth || 300,
                    height: HEIGHT,
                    legend: { show: false },
                    cursor: { drag: { x: false, y: false } },
                    scales: { y: { range: (_plot, _low, high) => [0, Math.max(1, (high ?? 0) * 1.1)] } },
                    axes: [
                        { stroke: ink, grid, ticks: grid, space: 70, values: (_plot, values) => values.map((v) => new Date(v * 1000).toLocaleTimeString("en-GB")) },
                        { stroke: ink, grid, ticks: grid, size: 56, values: (_plot, values) => values.map((v) => (v < 10 ? String(v) : format(v))) },
                    ],
                    series: [
                        {},
                        ...chart.lines.map(([label, , colour, dash]) => ({
                            label,
                            stroke: style.getPropertyValue(colour).trim(),
                            width: 1.5,
                            dash,
                            points: { show: false },
                        })),
                    ],
                },
                [[], ...chart.lines.map(() => [])],
                box,
            );
        }
        this.update(this.series ?? SERIES.map(() => []));
    }

    resize() {
        for (const { plot, figure } of this.charts) {
            const width = figure.querySelector("div").clientWidth;
            if (width && width !== plot.width) plot.setSize({ width, height: HEIGHT });
        }
    }

    /** `series`: the columns of Fleet.series. */
    update(series) {
        this.series = series;
        for (const { plot, figure, lines, unit } of this.charts) {
            const columns = lines.map(([, name]) => series[SERIES.indexOf(name)]);
            plot.setData([series[0], ...columns]);
            figure.querySelector("span").textContent = lines
                .map(([label], i) => {
                    const now = columns[i].at(-1);
                    const most = columns[i].reduce((a, b) => Math.max(a, b ?? 0), 0);
                    return `${label} ${now == null ? "not known" : format(now)}, at most ${format(most)} ${unit}`;
                })
                .join("; ");
        }
    }
}
