// Coastlines for a flat map. world-atlas keeps them for a sphere: a ring may cross the 180th meridian, and Antarctica's goes round the pole.
// Here each ring is continuous, closed over the pole if need be, and there twice if it leaves the map at one side.

/** The polygons of the land, in degrees, from its MultiPolygon's coordinates. */
export function flatten(polygons) {
    const out = [];
    for (const rings of polygons) {
        const flat = rings.map(unroll);
        out.push(flat);
        const lons = flat[0].map(([lon]) => lon);
        for (const [beyond, turn] of [[Math.max(...lons) > 180, -360], [Math.min(...lons) < -180, 360]])
            if (beyond) out.push(flat.map((ring) => ring.map(([lon, lat]) => [lon + turn, lat])));
    }
    return out;
}

function unroll(ring) {
    let turn = 0;
    let last = ring[0][0];
    const out = ring.map(([lon, lat]) => {
        if (Math.abs(lon - last) > 180) turn += lon > last ? -360 : 360;
        last = lon;
        return [lon + turn, lat];
    });
    if (turn) out.push([out.at(-1)[0], -90], [out[0][0], -90], out[0]);
    return out;
}
