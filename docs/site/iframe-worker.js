// Search without a server: browsers start no worker from file://, so a hidden frame runs the worker's script instead.
// The file has the name of the script that the theme's offline plugin would load from the network in its place.
function inFrame(script) {
  const load = (url) => new Promise((resolve) => {
    const element = document.createElement("script");
    element.src = url;
    element.onload = resolve;
    document.body.append(element);
  });
  window.postMessage = (message) => parent.postMessage(message, "*");
  window.importScripts = (...urls) => urls.reduce((done, url) => done.then(() => load(url)), Promise.resolve());
  load(script).then(() => parent.postMessage("ready", "*"));
}

class FrameWorker extends EventTarget {
  constructor(script) {
    super();
    const frame = document.createElement("iframe");
    frame.hidden = true;
    document.body.append(frame);
    this.frame = frame.contentWindow;
    this.ready = new Promise((resolve) => {
      window.addEventListener("message", (event) => {
        if (event.source !== this.frame) return;
        if (event.data === "ready") return resolve();
        this.dispatchEvent(new MessageEvent("message", { data: event.data }));
        this.onmessage?.(event);
      });
    });
    this.frame.document.open();
    this.frame.document.write(`<body><script>(${inFrame})(${JSON.stringify(String(script))})</script></body>`);
    this.frame.document.close();
  }

  postMessage(data) {
    this.ready.then(() => this.frame.dispatchEvent(new MessageEvent("message", { data: structuredClone(data) })));
  }
}

if (location.protocol === "file:") window.Worker = FrameWorker;
