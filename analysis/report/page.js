// SPDX-License-Identifier: GPL-2.0-only
"use strict";

// Without this script all panels are shown and all details are open.

function element(name, text, parent) {
  const made = document.createElement(name);
  made.textContent = text;
  parent.append(made);
  return made;
}

function makeSwitch(box) {
  const panels = [...box.querySelectorAll(":scope > .panel")];
  if (panels.length < 2) return;
  const choices = document.createElement("div");
  choices.className = "choices";
  const show = (chosen) => panels.forEach((panel) => { panel.hidden = panel !== chosen; });
  if (box.dataset.as === "select") {
    const label = element("label", box.dataset.label + " ", choices);
    const select = element("select", "", label);
    panels.forEach((panel) => element("option", panel.dataset.name, select));
    select.addEventListener("change", () => show(panels[select.selectedIndex]));
  } else {
    choices.setAttribute("role", "group");
    choices.setAttribute("aria-label", box.dataset.label);
    const buttons = panels.map((panel) => element("button", panel.dataset.name, choices));
    const press = (at) => {
      buttons.forEach((button, i) => button.setAttribute("aria-pressed", String(i === at)));
      show(panels[at]);
    };
    buttons.forEach((button, at) => {
      button.type = "button";
      button.addEventListener("click", () => press(at));
    });
    press(0);
  }
  box.prepend(choices);
  show(panels[0]);
}

function valueOf(row, column) {
  const cell = row.cells[column];
  const text = cell.dataset.value ?? cell.textContent.trim();
  const number = Number(text.replace(/,/g, ""));
  return text === "" ? null : Number.isNaN(number) ? text : number;
}

function compare(a, b) {
  if (typeof a === "number" && typeof b === "number") return a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}

function makeSortable(table) {
  const body = table.tBodies[0];
  if (!body || body.rows.length < 2) return;
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    head.setAttribute("aria-sort", "none");
    button.addEventListener("click", () => {
      const rows = [...body.rows];
      const now = head.getAttribute("aria-sort");
      const numeric = rows.some((row) => typeof valueOf(row, column) === "number");
      const first = numeric ? "descending" : "ascending";
      const second = numeric ? "ascending" : "descending";
      const order = now === first ? second : first;
      const sign = order === "ascending" ? 1 : -1;
      const keyed = rows.map((row) => [valueOf(row, column), row]);
      // What has no value comes last, whatever the order.
      keyed.sort(([a], [b]) => (a === null) - (b === null) || (a === null ? 0 : sign * compare(a, b)));
      heads.forEach((each) => each.setAttribute("aria-sort", each === head ? order : "none"));
      body.append(...keyed.map(([, row]) => row));
    });
  });
}

document.querySelectorAll(".switch").forEach(makeSwitch);
document.querySelectorAll("table.sortable").forEach(makeSortable);
document.querySelectorAll("details").forEach((each) => { each.open = false; });

let closed = [];
addEventListener("beforeprint", () => {
  closed = [...document.querySelectorAll("details:not([open])")];
  closed.forEach((each) => { each.open = true; });
});
addEventListener("afterprint", () => closed.forEach((each) => { each.open = false; }));
