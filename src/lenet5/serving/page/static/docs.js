// The routes of the service in Swagger UI.

import { accepted, onKey, report } from "./key.js";
import * as service from "./service.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();

async function load() {
  try {
    const spec = await service.description();
    accepted();
    globalThis.SwaggerUIBundle({
      spec,
      dom_id: "#routes",
      presets: [globalThis.SwaggerUIBundle.presets.apis],
      layout: "BaseLayout",
      deepLinking: true,
      tryItOutEnabled: true,
      defaultModelsExpandDepth: -1,
      requestInterceptor: service.authorized,
    });
  } catch (refusal) {
    report(refusal);
  }
}

onKey(load);
load();
