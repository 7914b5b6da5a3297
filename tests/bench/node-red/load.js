// The function node's "On Start": messages wait until it is done.
const ort = global.get("ort")
const options = { intraOpNumThreads: 1, interOpNumThreads: 1, executionProviders: ["cpu"] }
context.set("session", await ort.InferenceSession.create(global.get("model"), options))
