// The function node's "On Message": msg.payload is the parsed reading.
const ort = global.get("ort"), counts = global.get("counts")
counts.received++
// A plain array: the Float32Array of Node-RED's sandbox is none to the library outside of it.
const row = [(msg.payload.temperature - 4) / 1, (msg.payload.humidity - 55) / 5]
const outputs = await context.get("session").run({ rows: new ort.Tensor("float32", row, [1, 2]) })
const score = outputs.strangeness.data[0]
counts.scored++
if (score > 0.7) {
    counts.alerts++
    const device = msg.topic.split("/")[2]
    return { topic: `alerts/${device}`, payload: { device: device, time: msg.payload.ts, score: score } }
}
