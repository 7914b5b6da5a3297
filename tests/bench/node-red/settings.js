// Node-RED as it is for this bench: on loopback, without its editor, asking nobody for updates. Where things are comes from the environment.
module.exports = {
    uiHost: "127.0.0.1",
    uiPort: Number(process.env.BENCH_UI_PORT),
    flowFile: process.env.BENCH_FLOW,
    credentialSecret: false,
    httpAdminRoot: false,
    disableEditor: true,
    telemetry: { enabled: false, updateNotification: false },
    logging: { console: { level: "warn", metrics: false, audit: false } },
    functionGlobalContext: {
        ort: require(process.env.BENCH_ORT),
        model: process.env.BENCH_MODEL,
        counts: { received: 0, scored: 0, alerts: 0 },
    },
}
