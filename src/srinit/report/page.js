"use strict";
(() => {
  const $ = (selector, root = document) => root.querySelector(selector);
  const all = (selector, root = document) => [...root.querySelectorAll(selector)];
  const language = () => document.documentElement.lang;

  // Language: the switch works by style alone; attributes and the title follow here.
  function speak(code) {
    document.documentElement.lang = code;
    document.title = document.body.dataset[code === "ja" ? "titleJa" : "titleEn"];
    for (const node of all("[data-attr]")) node.setAttribute(node.dataset.attr, node.dataset[code]);
    roi();
  }
  for (const input of all("input[name=lang]"))
    input.addEventListener("change", () => {
      if (!input.checked) return;
      speak(input.value);
      keep();
    });

  // The slider looks everything up in the table of steps.
  const slider = $("#slider");
  const rows = all("#steps tbody tr");
  const columns = all("#steps thead th").map((head) => head.dataset.col);
  const cell = (row, name) => row.cells[columns.indexOf(name)];
  const quote = (text) => (/^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", `'"'"'`)}'`);

  function slide() {
    const count = Number(slider.value);
    const row = rows[count];
    for (const out of all("[data-out]")) {
      const source = cell(row, out.dataset.out);
      out.replaceChildren(...[...source.childNodes].map((node) => node.cloneNode(true)));
    }
    for (const meter of all("[data-meter]")) {
      const source = cell(row, meter.dataset.meter);
      meter.className = source.dataset.state ?? "";
      meter.style.width = `${Math.min(parseFloat($("small", source)?.textContent ?? 0), 100)}%`;
    }
    for (const unit of all(".unit[data-rank]")) {
      if (unit.classList.contains("locked")) continue;
      const rank = Number(unit.dataset.rank);
      const goes = rank > 0 && rank <= count;
      const went = rank > 0 && rank <= Number(slider.dataset.chosen);
      unit.classList.toggle("gone", goes && went);
      unit.classList.toggle("would", goes && !went);
      unit.classList.toggle("kept", !goes && !went);
      unit.classList.toggle("stays", !goes && went);
    }
    $("#what-if").hidden = count === Number(slider.dataset.chosen);
    rows.forEach((each, index) => each.classList.toggle("chosen", index === count));
    const names = rows.slice(1, count + 1).map((each) => cell(each, "unit").textContent);
    $("#command").textContent = `srinit plan ${document.body.dataset.run} --remove ${quote(names.join(","))}`;
    slider.setAttribute("aria-valuetext", `${count}; ${cell(row, "params").textContent}`);
    for (const marker of all("[data-marker]"))
      marker.setAttribute("transform", `translate(${count * Number(marker.dataset.step)} 0)`);
  }
  if (slider) {
    $("#slider-box").hidden = false;
    slider.addEventListener("input", () => {
      slide();
      keep();
    });
    $("#slider-back").addEventListener("click", () => {
      slider.value = slider.dataset.chosen;
      slide();
      keep();
    });
    // On paper stands what was carried out, whatever was tried on the screen.
    let tried = slider.value;
    window.addEventListener("beforeprint", () => {
      tried = slider.value;
      slider.value = slider.dataset.chosen;
      slide();
    });
    window.addEventListener("afterprint", () => {
      slider.value = tried;
      slide();
    });
    slide();
  }

  // A picture is enlarged by a click, Enter or the space bar, and put back by Escape.
  const enlarged = $("#enlarged");
  for (const hint of all("#can-enlarge")) hint.hidden = false;
  for (const picture of all("#explanations img")) {
    picture.tabIndex = 0;
    picture.setAttribute("role", "button");
    picture.addEventListener("click", () => {
      $("img", enlarged)?.remove();
      const copy = picture.cloneNode();
      for (const name of ["role", "tabindex"]) copy.removeAttribute(name);
      const texts = [picture, $(".title,p", picture.closest(".view,.shown,li"))];
      $("#enlarged-title").textContent = texts.map((node) => node?.alt ?? node?.innerText).filter(Boolean).join(" - ");
      enlarged.prepend(copy);
      enlarged.showModal();
    });
    picture.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      picture.click();
    });
  }

  // Numbers as report/formats.py writes them.
  const NOTHING = "–";
  const MINUS = "−";
  function fixed(value, digits = 0) {
    if (value === null || !Number.isFinite(value)) return NOTHING;
    const [whole, rest] = Math.abs(value).toFixed(digits).split(".");
    const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",") + (rest ? `.${rest}` : "");
    return (value < 0 && /[1-9]/.test(grouped) ? MINUS : "") + grouped;
  }
  const percent = (value, digits) => (value === null ? NOTHING : `${fixed(100 * value, digits)}%`);
  const rate = (value) =>
    value > 1 ? "> 100%" : value > 0 && value < 0.00005 ? "< 0.01%" : percent(value, 2);
  function rounded(size, names) {
    for (const [unit, name] of names) {
      if (size < unit) continue;
      const count = size / unit;
      return fixed(count, count < 10 ? 2 : count < 100 ? 1 : 0) + name;
    }
    return fixed(size);
  }
  function money(value, currency) {
    if (value === null || !Number.isFinite(value)) return NOTHING;
    const [ja, en] = { JPY: ["円", "¥"], USD: ["ドル", "$"], EUR: ["ユーロ", "€"] }[currency];
    const sign = Math.abs(value) < 0.5 || value > 0 ? "" : MINUS;
    const size = Math.abs(value);
    if (language() === "ja") return sign + rounded(size, [[1e12, "兆"], [1e8, "億"], [1e4, "万"]]) + ja;
    return sign + en + rounded(size, [[1e12, " trillion"], [1e9, " billion"], [1e6, " million"]]);
  }
  function years(value) {
    if (value === null) return NOTHING;
    const ja = language() === "ja";
    if (value === Infinity) return ja ? "回収できません" : "never";
    if (value < 2) return fixed(12 * value, 1) + (ja ? "か月" : " months");
    if (value > 50) return ja ? "50年超" : "over 50 years";
    return fixed(value, 1) + (ja ? "年" : " years");
  }
  const ends = (low, high) => (low === high ? low : low + (language() === "ja" ? "〜" : " to ") + high);

  // Return on investment: the formulas of report/roi.py.
  const SMALLEST = 1e-9;
  const box = $("#roi");
  const facts = JSON.parse($("#roi-facts").textContent);
  const scale = (range, factor) =>
    range && { value: factor * range.value, low: factor * range.low, high: factor * range.high };

  function result(given) {
    const known = (...values) => values.every((value) => value !== null);
    let hour = given.cost_per_compute_hour;
    if (hour === null && given.cheaper_device_price === null && given.device_price !== null && given.device_years && given.device_hours_per_year)
      hour = given.device_price / (given.device_years * given.device_hours_per_year);
    const pieces = given.pieces_per_year;
    const ratio = facts.ratio;
    const worth = (price) => {
      if (!known(pieces, price, facts.ms_per_piece, ratio)) return null;
      const year = ((pieces * facts.ms_per_piece) / 3.6e6) * price;
      return { value: year * (1 - ratio.value), low: year * (1 - ratio.high), high: year * (1 - ratio.low) };
    };
    const [compute, takt] = [worth(hour), worth(given.line_hour_value)];
    let device = null;
    if (known(given.device_price, given.cheaper_device_price) && given.device_years) {
      const yearly = ((given.devices ?? 1) * (given.device_price - given.cheaper_device_price)) / given.device_years;
      device = { value: yearly, low: yearly, high: yearly };
    }
    const gains = [compute, takt, device].filter((gain) => gain !== null);
    const total = (parts, key) => parts.reduce((sum, part) => sum + part[key], 0);
    const gained = { value: total(gains, "value"), low: total(gains, "low"), high: total(gains, "high") };
    const matrix = facts.cost_increase;
    const share = matrix ? facts.defect_share : (given.defect_share ?? facts.defect_share);
    const errors = (part, cost, rise) => (known(pieces, part, cost, rise) ? scale(rise, pieces * part * cost) : null);
    const priced = (cost) => (matrix ? null : cost);
    const missed = errors(share, priced(given.missed_defect_cost), facts.miss_increase);
    const reject = errors(share === null ? null : 1 - share, priced(given.false_reject_cost), facts.reject_increase);
    const all_errors = errors(1, 1, matrix);
    const costs = [missed, reject, all_errors].filter((cost) => cost !== null);
    let saving = null;
    if (gains.length || costs.length) {
      const sum = (key) => total(costs, key);
      saving = { value: gained.value - sum("value"), low: gained.low - sum("high"), high: gained.high - sum("low") };
    }
    let once = null;
    if (known(given.engineering_hours, given.hourly_rate)) once = given.engineering_hours * given.hourly_rate;
    let payback = null;
    if (saving !== null && once !== null) {
      const span = (yearly) => (yearly >= SMALLEST ? once / yearly : Infinity);
      payback = { value: span(saving.value), low: span(saving.high), high: span(saving.low) };
    }
    let even = null;
    const perRate = (pieces ?? 0) * (share ?? 0) * ((matrix ? facts.cost_of_miss : given.missed_defect_cost) ?? 0);
    if (saving !== null && known(facts.miss_rate, facts.miss_increase) && perRate >= SMALLEST) {
      const [gain, loss] = [gained, reject ?? { value: 0, low: 0, high: 0 }];
      const at = (more) => Math.max(facts.miss_rate + (saving.value + more) / perRate, 0);
      const worse = gain.low - gain.value - (loss.high - loss.value);
      const better = gain.high - gain.value - (loss.low - loss.value);
      even = { value: at(0), low: at(worse), high: at(better) };
    }
    return { compute_saving: compute, takt_gain: takt, device_saving: device, missed_cost: missed, reject_cost: reject, error_cost: all_errors, saving, one_off: once, payback_years: payback, break_even_miss_rate: even };
  }

  // An amount as people write it: 150,000; 1,5; 1.234,5; １５万; 1億2000万; 1.5 million; 2%. NaN: none.
  const UNITS = { 万: 1e4, 億: 1e8, 兆: 1e12, k: 1e3, million: 1e6, billion: 1e9, "%": 0.01 };
  function plain(text) {
    if (/^\d{1,3}([, ']\d{3})+(\.\d+)?$/.test(text)) return Number(text.replace(/[, ']/g, ""));
    if (/^\d{1,3}(\.\d{3})+,\d+$/.test(text)) return Number(text.replace(/\./g, "").replace(",", "."));
    if (/^\d+,\d+$/.test(text)) return Number(text.replace(",", "."));
    return /^\d+(\.\d+)?(e[+-]?\d+)?$/.test(text) ? Number(text) : NaN;
  }
  function amount(written) {
    const text = written.normalize("NFKC").trim().toLowerCase().replace(/^[¥$€]\s*|\s*(円|ドル|ユーロ)$/g, "");
    if (text === "") return null;
    const parts = [...text.matchAll(/([\d.,' e+-]*?\d)\s*(万|億|兆|k|million|billion|%|$)\s*/gy)];
    if (parts.map((part) => part[0]).join("") !== text) return NaN;
    return parts.reduce((sum, part) => sum + plain(part[1]) * (UNITS[part[2]] ?? 1), 0);
  }
  function read(input) {
    const found = amount(input.value);
    const good = found === null || (Number.isFinite(found) && !(input.name === "defect_share" && found > 1));
    input.setAttribute("aria-invalid", String(!good));
    $(`#bad-${input.name}`).hidden = good;
    return good ? found : null;
  }

  function roi() {
    const given = { defect_share: null, missed_defect_cost: null, false_reject_cost: null };
    for (const input of all("input", box)) given[input.name] = read(input);
    const found = result(given);
    const currency = box.dataset.currency;
    for (const out of all("[data-roi]")) {
      const key = out.dataset.roi;
      const value = found[key];
      const spread = $(`[data-roi-range="${key}"]`);
      spread.textContent = "";
      if (key === "one_off") out.textContent = money(value, currency);
      else {
        const shows = { payback_years: years, break_even_miss_rate: rate };
        const show = shows[key] ?? ((amount) => money(amount, currency));
        out.textContent = show(value && value.value);
        if (value) spread.textContent = ends(show(value.low), show(value.high));
      }
    }
    const empty = $("#money-empty");
    if (empty) empty.hidden = found.saving !== null;
  }
  for (const input of all("input", box)) input.readOnly = false;
  box.addEventListener("input", () => {
    roi();
    keep();
  });

  // What was chosen stands in the address, so that it can be sent: #lang=ja&n=4&hourly_rate=9000.
  function keep() {
    const state = new URLSearchParams();
    const chosen = $("input[name=lang]:checked");
    if (chosen) state.set("lang", chosen.value);
    if (slider && slider.value !== slider.dataset.chosen) state.set("n", slider.value);
    for (const input of all("input", box)) if (input.value !== input.defaultValue) state.set(input.name, input.value);
    history.replaceState(null, "", `#${state}`);
  }
  function restore() {
    const state = new URLSearchParams(location.hash.includes("=") ? location.hash.slice(1) : "");
    const browser = document.body.dataset.languageSet ? null : navigator.language.slice(0, 2);
    const wanted = $(`#lang-${CSS.escape(state.get("lang") ?? "")}`) ?? (started ? null : $(`#lang-${CSS.escape(browser ?? "")}`));
    if (wanted) wanted.checked = true;
    const n = state.get("n");
    if (slider && /^\d+$/.test(n ?? "") && Number(n) <= Number(slider.max)) {
      slider.value = n;
      slide();
    }
    for (const input of all("input", box)) if (state.has(input.name)) input.value = state.get(input.name);
    const chosen = $("input[name=lang]:checked");
    if (chosen && chosen.value !== language()) speak(chosen.value);
    else roi();
  }
  let started = false;
  restore();
  started = true;
  window.addEventListener("hashchange", () => location.hash.includes("=") && restore());
})();
