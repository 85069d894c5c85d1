/* The site's search without a server. A page that was opened as a file may start no worker: its script then runs in a
   hidden frame, which answers as a worker does. Zensical's plugin "offline" looks for a polyfill of this name. */
if (location.protocol === "file:") {
  window.Worker = class {
    constructor(url) {
      this.waiting = [];
      this.frame = document.createElement("iframe");
      this.frame.hidden = true;
      this.frame.addEventListener("load", () => this.begin(url), { once: true });
      document.body.append(this.frame);
    }

    begin(url) {
      const inside = this.frame.contentWindow;
      inside.postMessage = (data) => setTimeout(() => this.onmessage?.({ data: structuredClone(data) }));
      const script = inside.document.createElement("script");
      script.src = url;
      script.onerror = (event) => this.onerror?.(event);
      script.onload = () => {
        this.inside = inside;
        this.waiting.forEach((data) => this.postMessage(data));
      };
      inside.document.body.append(script);
    }

    postMessage(data) {
      if (this.inside) setTimeout(() => this.inside.onmessage({ data: structuredClone(data) }));
      else this.waiting.push(data);
    }

    terminate() {
      this.frame.remove();
    }
  };
}
