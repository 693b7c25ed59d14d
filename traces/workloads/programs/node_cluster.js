// SPDX-License-Identifier: GPL-2.0-only
'use strict';
const cluster = require('cluster');
const http = require('http');
const zlib = require('zlib');

const WORKERS = 4;
const ROUNDS = 4;
const REQUESTS = 300;
const PARALLEL = 8;
const socketPath = process.argv[2];

// A worker keeps what it made in a cache, and makes some garbage with each answer.
function work() {
  const cache = new Map();
  http.createServer((request, response) => {
    const rows = [];
    for (let i = 0; i < 500; i++) rows.push({ id: i, name: `row ${i}`, url: request.url, at: i * 1.5 });
    const text = JSON.stringify(rows);
    cache.set(request.url, Buffer.from(text));
    if (cache.size > 200) cache.clear();
    zlib.gzip(text, (error, body) => {
      response.writeHead(error ? 500 : 200, { 'Content-Encoding': 'gzip' });
      response.end(body);
    });
  }).listen(socketPath);
}

function request(path) {
  return new Promise((resolve, reject) => {
    http.get({ socketPath, path }, (response) => {
      const parts = [];
      response.on('data', (part) => parts.push(part));
      response.on('end', () => {
        const rows = JSON.parse(zlib.gunzipSync(Buffer.concat(parts)));
        if (response.statusCode === 200 && rows.length === 500) resolve();
        else reject(new Error(`wrong answer to ${path}`));
      });
      response.on('error', reject);
    }).on('error', reject);
  });
}

async function client() {
  let next = 0;
  await Promise.all(Array.from({ length: PARALLEL }, async () => {
    while (next < REQUESTS) await request(`/item/${next++}`);
  }));
}

function started() {
  return new Promise((resolve) => cluster.fork().once('listening', resolve));
}

function died(worker) {
  return new Promise((resolve) => worker.once('exit', resolve));
}

async function serve() {
  for (let i = 0; i < WORKERS; i++) await started();
  for (let round = 0; round < ROUNDS; round++) {
    await client();
    const [victim] = Object.values(cluster.workers);
    victim.process.kill('SIGKILL');
    await died(victim);
    await started();
  }
  await client();
  await Promise.all(Object.values(cluster.workers).map((worker) => {
    worker.disconnect();
    return died(worker);
  }));
}

if (cluster.isPrimary) serve().catch((error) => { console.error(error); process.exit(1); });
else work();
