"use strict";
// Search, likes and lists of the page; it talks to the server it came from and to nobody else.

const at = (id) => document.getElementById(id);
const liked = []; // {id, title}, oldest first
let logged = false;
let asked = 0; // number of the newest request: answers of older ones are dropped

const same = (one, other) => JSON.stringify(one) === JSON.stringify(other);
const named = (item) => item.title ?? String(item.id);

async function ask(path, body) {
  const options = body && { method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(path, options);
  const values = await answer.json();
  if (!answer.ok) throw new Error(values.detail);
  return values;
}

function row(text, more, label, pressed) {
  const button = document.createElement("button");
  button.type = "button";
  button.textContent = text;
  button.setAttribute("aria-label", `${label}: ${text}${more ? `. ${more}` : ""}`);
  if (more) {
    const small = document.createElement("small");
    small.textContent = more;
    button.append(small);
  }
  button.addEventListener("click", pressed);
  const place = document.createElement("li");
  place.append(button);
  return place;
}

function say(text) {
  at("status").textContent = text;
}

async function search() {
  const query = at("query").value.trim();
  if (!query) return at("found").replaceChildren();
  const { items } = await ask(`/items?limit=12&query=${encodeURIComponent(query)}`);
  if (query !== at("query").value.trim()) return;
  at("found").replaceChildren(...items.map((item) => row(named(item), "", "Like", () => like(item))));
  say(items.length ? `${items.length} titles found.` : "No title found.");
}

function like(item, list) {
  if (list && logged) ask("/feedback", { answers: [{ list, item: item.id }] }).catch((error) => say(error.message));
  if (!liked.some((one) => same(one.id, item.id))) liked.push(item);
  show();
}

function forget(item) {
  liked.splice(liked.indexOf(item), 1);
  show();
  (at("liked").querySelector("button") ?? at("query")).focus();
}

function why(item, by) {
  if (by !== "run") return "";
  const parts = item.because ? [`because of ${named(item.because)}`] : [];
  if (item.score !== null) parts.push(`score ${item.score.toFixed(3)}`);
  return [...parts, `propensity ${item.propensity.toPrecision(3)}`].join(" · ");
}

async function list(by, number) {
  const body = { history: liked.map((item) => item.id), k: 10, by, explain: by === "run" };
  const answer = await ask("/recommend", body);
  if (number !== asked) return;
  const within = at(by).contains(document.activeElement);
  at(by).replaceChildren(
    ...answer.items.map((item) => row(named(item), why(item, by), "Like", () => like(item, answer.list))));
  if (within) at(by).querySelector("button")?.focus();
  if (by === "run") say(`${answer.items.length} recommendations for ${liked.length} liked titles.`);
}

async function show() {
  at("nothing").hidden = liked.length > 0;
  at("liked").replaceChildren(...liked.map((item) => row(`${named(item)} ×`, "", "Remove", () => forget(item))));
  asked += 1;
  const shown = ["run", "second", "popularity"].filter((by) => !at(by).parentElement.hidden);
  await Promise.all(shown.map((by) => list(by, asked))).catch((error) => say(error.message));
}

async function begin() {
  const model = await ask("/model");
  logged = model.logged;
  at("second").parentElement.hidden = model.second === null;
  at("popularity").parentElement.hidden = !model.popularity;
  if (model.second !== null) at("second-heading").textContent = `Second run: ${model.second}`;
  const agent = String(model.agent ?? "").split(":").pop();
  at("run-heading").textContent = `Recommended by ${agent || "the run"}`;
  let waiting;
  at("query").addEventListener("input", () => {
    clearTimeout(waiting);
    waiting = setTimeout(() => search().catch((error) => say(error.message)), 150);
  });
  await show();
}

begin().catch((error) => say(error.message));
