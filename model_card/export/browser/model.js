// Runs an exported model with onnxruntime-web: loads the runtime and the graphs, classifies clips, and re-labels.

export const VERSION = "1.30.0";
const INTEGRITY = {
  "ort.wasm.bundle.min.mjs": "sha384-PLWz+nHEVHpjwBsO0YVdvQj6n5814Iv8E3b8FG0Rp/uIAtjFMCKOpP66iPzedrIG",
  "ort-wasm-simd-threaded.wasm": "sha384-vjBJ1z7qrhkTyYsNqKeF6c7N+nOJSU94czEo+tvZcu8G75JparGq9kB+kTnEUNVM",
};

/** Loads onnxruntime-web from a folder or from a CDN. The browser refuses files with another content. */
export async function loadRuntime(folder) {
  const read = async (name) => {
    const answer = await fetch(new URL(name, new URL(folder, document.baseURI)), { integrity: INTEGRITY[name] });
    if (!answer.ok) throw new Error(`${name} of onnxruntime-web ${VERSION} is not in ${folder}`);
    return answer.arrayBuffer();
  };
  const [code, binary] = await Promise.all(Object.keys(INTEGRITY).map(read));
  const address = URL.createObjectURL(new Blob([code], { type: "text/javascript" }));
  const ort = await import(address);
  ort.env.wasm.wasmBinary = binary;
  ort.env.wasm.numThreads = 1; // more threads need headers that plain servers do not send
  ort.env.logLevel = "error";
  return ort;
}

/** Reads a file of the export, as JSON or as bytes. */
async function readFile(folder, name) {
  const answer = await fetch(new URL(name, folder));
  if (!answer.ok) throw new Error(`${name} is not in the folder of the export`);
  return name.endsWith(".json") ? answer.json() : new Uint8Array(await answer.arrayBuffer());
}

/** Yields the fields of a protobuf message: number, start of the field, and start and end of its content. */
function* fieldsOf(bytes, at, end) {
  const varint = () => {
    let value = 0;
    for (let factor = 1; ; factor *= 128) {
      const byte = bytes[at++];
      value += (byte & 127) * factor;
      if (byte < 128) return value;
    }
  };
  while (at < end) {
    const start = at;
    const key = varint();
    const wire = key & 7;
    let from = at;
    let value;
    if (wire === 0) value = varint();
    else if (wire === 2) {
      const length = varint();
      from = at;
      at += length;
    } else at += wire === 5 ? 4 : 8;
    yield { field: Math.floor(key / 8), start, from, to: at, value };
  }
}

function varintBytes(value) {
  const bytes = [];
  for (; value > 127; value = Math.floor(value / 128)) bytes.push((value % 128) + 128);
  return [...bytes, value];
}

/**
 * Takes the trained classes out of a graph. onnxruntime-web accepts no value for an input that has a default in the
 * graph, so the defaults are removed, and given as inputs.
 */
export function splitClasses(bytes) {
  const text = (part) => new TextDecoder().decode(bytes.subarray(part.from, part.to));
  const find = (part, field) => [...fieldsOf(bytes, part.from, part.to)].filter((one) => one.field === field);
  const model = [...fieldsOf(bytes, 0, bytes.length)];
  const graph = model.find((part) => part.field === 7);
  const inputs = new Set(find(graph, 11).map((part) => text(find(part, 1)[0])));
  const classes = {};
  const kept = [];
  for (const part of fieldsOf(bytes, graph.from, graph.to)) {
    const name = part.field === 5 ? text(find(part, 8)[0]) : "";
    if (!inputs.has(name)) {
      kept.push(bytes.subarray(part.start, part.to));
      continue;
    }
    const raw = find(part, 9)[0];
    const dims = find(part, 1).flatMap((one) =>
      one.value === undefined ? [...bytes.subarray(one.from, one.to)] : [one.value],
    );
    classes[name] = { values: new Float32Array(bytes.slice(raw.from, raw.to).buffer), dims };
  }
  const length = kept.reduce((sum, part) => sum + part.length, 0);
  const others = model.filter((part) => part !== graph).map((part) => bytes.subarray(part.start, part.to));
  const parts = [...others, new Uint8Array([7 * 8 + 2, ...varintBytes(length)]), ...kept];
  const result = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    result.set(part, at);
    at += part.length;
  }
  return { graph: result, classes };
}

/** The tokenizer of CLIP: byte-pair encoding of lower-case words. */
export class ClipTokenizer {
  constructor(content) {
    if (content.model.end_of_word_suffix !== "</w>") throw new Error("this model has another tokenizer than CLIP");
    this.vocabulary = content.model.vocab;
    this.ranks = new Map(content.model.merges.map((pair, rank) => [[].concat(pair).join(" "), rank]));
    this.start = content.post_processor.cls[1];
    this.end = content.post_processor.sep[1];
    this.symbols = [];
    for (let byte = 0, other = 256; byte < 256; byte++) {
      const printable = (byte > 32 && byte < 127) || (byte > 160 && byte !== 173);
      this.symbols[byte] = String.fromCodePoint(printable ? byte : other++);
    }
  }

  encode(text) {
    // Each character by itself, because a whole word has another sigma at its end.
    const lower = [...text.normalize("NFC")].map((letter) => letter.toLowerCase()).join("");
    const words = lower.match(/'s|'t|'re|'ve|'m|'ll|'d|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+/gu) ?? [];
    return [this.start, ...words.flatMap((word) => this.encodeWord(word)), this.end];
  }

  encodeWord(word) {
    const symbols = [...new TextEncoder().encode(word)].map((byte) => this.symbols[byte]);
    symbols[symbols.length - 1] += "</w>";
    while (symbols.length > 1) {
      let best = Infinity;
      let at = 0;
      for (let index = 0; index + 1 < symbols.length; index++) {
        const rank = this.ranks.get(`${symbols[index]} ${symbols[index + 1]}`) ?? Infinity;
        if (rank < best) [best, at] = [rank, index];
      }
      if (best === Infinity) break;
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
    return symbols.map((symbol) => this.vocabulary[symbol]);
  }
}

/** An exported model. */
export class Model {
  static async load(ort, folder, file) {
    const model = new Model();
    Object.assign(model, { ort, folder, file });
    [model.config, model.processor] = await Promise.all(
      ["config.json", "processor_config.json"].map((name) => readFile(folder, name)),
    );
    const { graph, classes } = splitClasses(await readFile(folder, file));
    model.session = await ort.InferenceSession.create(graph);
    model.classes = Object.fromEntries(
      Object.entries(classes).map(([name, { values, dims }]) => [name, new ort.Tensor("float32", values, dims)]),
    );
    const names = model.config.id2label;
    model.labels = Object.keys(names)
      .sort((one, other) => one - other)
      .map((index) => names[index]);
    model.trained = { labels: model.labels, classes: model.classes };
    return model;
  }

  /** Converts logits to probabilities. Their sum is one, unless clips have several labels. */
  probabilities(logits) {
    const isTrained = this.labels === this.trained.labels;
    const temperature = isTrained ? this.config.temperature || 1 : 1;
    const scaled = logits.map((logit) => logit / temperature);
    if (this.config.problem_type === "multi_label_classification") return scaled.map((one) => 1 / (1 + Math.exp(-one)));
    const highest = Math.max(...scaled);
    const weights = scaled.map((one) => Math.exp(one - highest));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    return weights.map((weight) => weight / sum);
  }

  /** Classifies a clip: normalised pixels (T, 3, H, W) with their height and width, and the seconds of its frames. */
  async classify({ pixels, height, width }, seconds) {
    const { Tensor } = this.ort;
    const count = seconds.length;
    const outputs = await this.session.run({
      pixel_values_videos: new Tensor("float32", pixels, [1, count, 3, height, width]),
      frame_mask: new Tensor("bool", new Uint8Array(count).fill(1), [1, count]),
      timestamps: new Tensor("float32", Float32Array.from(seconds), [1, count]),
      ...this.classes,
    });
    const probabilities = this.probabilities([...outputs.logits.data]);
    const best = probabilities.indexOf(Math.max(...probabilities));
    const limit = this.config.unsure_below;
    const isUnsure = this.labels === this.trained.labels && limit != null && probabilities[best] < limit;
    const relevance = [...Array(count).keys()].map((at) => outputs.frame_relevance.data[at * probabilities.length + best]);
    return { label: this.labels[best], isUnsure, probabilities, relevance };
  }

  /** Replaces the classes by those with the given descriptions, or by the trained ones. */
  async setClasses(descriptions) {
    if (!descriptions) {
      Object.assign(this, this.trained);
      return;
    }
    const { Tensor } = this.ort;
    const labels = Object.keys(descriptions).sort();
    const most = Math.max(...labels.map((label) => descriptions[label].length));
    this.tokenizer ??= new ClipTokenizer(await readFile(this.folder, "tokenizer.json"));
    const rows = labels.flatMap((label) => {
      const texts = descriptions[label];
      return [...Array(most).keys()].map((at) =>
        this.tokenizer.encode(`${this.processor.context_phrase} ${texts[at] ?? texts[0]}`),
      );
    });
    const length = Math.max(...rows.map((row) => row.length));
    const tower = this.config.clip_config.text_config;
    if (length > tower.max_position_embeddings) throw new Error("a description is too long; shorten it");
    const ids = rows.flatMap((row) => [...row, ...Array(length - row.length).fill(tower.pad_token_id)]);
    const known = this.processor.descriptions ?? {};
    const same = (label) => JSON.stringify([...(known[label] ?? [])].sort()) === JSON.stringify([...descriptions[label]].sort());
    this.textSession ??= await this.ort.InferenceSession.create(await readFile(this.folder, `text_${this.file}`));
    this.classes = await this.textSession.run({
      input_ids: new Tensor("int64", BigInt64Array.from(ids, BigInt), [labels.length, most, length]),
      description_mask: new Tensor(
        "bool",
        Uint8Array.from(labels.flatMap((label) => [...Array(most).keys()].map((at) => +(at < descriptions[label].length)))),
        [labels.length, most],
      ),
      class_index: new Tensor(
        "int64",
        BigInt64Array.from(labels, (label) => BigInt(this.config.label2id[label] ?? -1)),
        [labels.length],
      ),
      is_unchanged: new Tensor("bool", Uint8Array.from(labels, (label) => +same(label)), [labels.length]),
    });
    this.labels = labels;
  }
}
