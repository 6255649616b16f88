// Reads lines of JSON, [language, query], and writes one line for each that its grammar does not accept.
import { createInterface } from 'node:readline';
import { parser as logql } from '@grafana/lezer-logql';
import { parser as traceql } from '@grafana/lezer-traceql';

const grammars = { loki: logql, tempo: traceql };

for await (const line of createInterface({ input: process.stdin })) {
  const [language, query] = JSON.parse(line);
  const wrong = [];
  grammars[language].parse(query).iterate({
    enter: (node) => {
      if (node.type.isError) wrong.push(node.from);
    },
  });
  if (wrong.length) console.log(JSON.stringify({ language, query, wrong }));
}
