// Draws one dashboard from what its queries gave: window.BOARD is the dashboard, window.DATA what draw_pictures.py made of it.
import 'uplot/dist/uPlot.min.css';
import React, { useLayoutEffect } from 'react';
import { createRoot } from 'react-dom/client';
import { createTheme, dateTime, FieldType, getDisplayProcessor, reduceField, toDataFrame } from '@grafana/data';
import { BigValue, BigValueColorMode, BigValueGraphMode, GlobalStyles, PanelChrome, ThemeContext, TimeSeries } from '@grafana/ui';

const { BOARD, DATA } = window;
const WIDTH = 1600, COLUMN = WIDTH / 24, ROW = 38, HEAD = 52, GAP = 8;
const theme = createTheme({ colors: { mode: 'dark' } });
const dim = { color: theme.colors.text.secondary };
const range = { from: dateTime(DATA.from * 1000), to: dateTime(DATA.to * 1000), raw: { from: 'now-15m', to: 'now' } };

const named = (format, labels) =>
  !format || format === '__auto'
    ? Object.entries(labels).filter(([name]) => name !== '__name__').map(([, value]) => value).join(' ') || 'Value'
    : format.replace(/{{\s*(\w+)\s*}}/g, (_, name) => labels[name] ?? '');

function configOf(panel, name) {
  const { defaults, overrides } = panel.fieldConfig;
  const config = { color: { mode: 'palette-classic' }, ...structuredClone(defaults), displayName: undefined };
  for (const { matcher, properties } of overrides) {
    if (matcher.id === 'byName' && matcher.options === name || matcher.id === 'byRegexp' && new RegExp(matcher.options.replace(/^\/|\/$/g, '')).test(name)) {
      for (const { id, value } of properties) {
        if (id.startsWith('custom.')) config.custom = { ...config.custom, [id.slice(7)]: value };
        else config[id] = value;
      }
    }
  }
  return config;
}

// A point that is missing is a gap, not a line across it.
function withGaps(points) {
  const out = [];
  for (const [time, value] of points) {
    if (out.length && time * 1000 - out[out.length - 1][0] > 3 * DATA.step * 1000) out.push([out[out.length - 1][0] + 1, null]);
    const number = Number(value);
    out.push([time * 1000, Number.isFinite(number) ? number : null]);
  }
  return out;
}

function frames(panel) {
  let index = 0;
  const made = [];
  for (const target of panel.targets ?? []) {
    for (const series of DATA.queries[target.expr]?.range ?? []) {
      const name = named(target.legendFormat, series.metric);
      const config = { ...configOf(panel, name), displayNameFromDS: name };
      config.custom = { drawStyle: 'line', lineInterpolation: 'linear', axisPlacement: 'auto', scaleDistribution: { type: 'linear' }, showPoints: 'never', ...config.custom };
      for (const bound of ['min', 'max']) if (config[bound] == null) delete config[bound];
      const points = withGaps(series.values);
      const frame = toDataFrame({ refId: target.refId, fields: [
        { name: 'Time', type: FieldType.time, config: { interval: DATA.step * 1000 }, values: points.map(([time]) => time) },
        { name: 'Value', type: FieldType.number, config, labels: series.metric, values: points.map(([, value]) => value) },
      ] });
      frame.fields[1].state = { seriesIndex: index++, displayName: name };
      for (const field of frame.fields) field.display = getDisplayProcessor({ field, theme, timeZone: 'utc' });
      made.push(frame);
    }
  }
  return made;
}

// As Grafana draws annotations: dashed lines where it begins and ends, what is between them tinted, a sign at the foot.
function mark(plot) {
  const { ctx, bbox } = plot, ratio = window.devicePixelRatio, dash = 5 * ratio;
  // Of several at one time each has dashes of its own, so that none hides another.
  const colours = time => [...new Set(DATA.marks.filter(({ from, to }) => from === time || to === time).map(({ color }) => color))];
  ctx.save();
  for (const { color, from, to } of DATA.marks) {
    const [begin, end] = [from, to].map(time => plot.valToPos(Math.min(Math.max(time * 1000, plot.scales.x.min), plot.scales.x.max), 'x', true));
    if (to < DATA.from) continue;
    ctx.strokeStyle = ctx.fillStyle = theme.visualization.getColorByName(color);
    ctx.lineWidth = 2 * ratio;
    for (const [time, x] of new Map([[from, begin], [to, end]])) {
      const there = colours(time);
      ctx.setLineDash([dash, dash * Math.max(1, there.length - 1)]);
      ctx.lineDashOffset = -dash * there.indexOf(color);
      ctx.beginPath();
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
      ctx.stroke();
    }
    ctx.globalAlpha = 0.1;
    ctx.fillRect(begin, bbox.top, end - begin, bbox.height);
    ctx.globalAlpha = 1;
    const foot = bbox.top + bbox.height, half = 5 * ratio;
    ctx.beginPath();
    ctx.moveTo(begin, foot);
    ctx.lineTo(begin - half, foot + half);
    ctx.lineTo(Math.max(end, begin) + half, foot + half);
    ctx.lineTo(end, foot);
    ctx.fill();
  }
  ctx.restore();
}

function Marks({ config }) {
  useLayoutEffect(() => config.addHook('draw', mark), [config]);
  return null;
}

// Which colour is what; Grafana has a switch for each there.
const MarkNames = () => <div style={{ position: 'absolute', right: 12, top: 18, display: 'flex', gap: 18, fontSize: 13, ...dim }}>
  {BOARD.annotations.list.filter(({ expr }) => expr).map(({ name, iconColor }) => <span key={name}><span style={{ color: theme.visualization.getColorByName(iconColor) }}>■ </span>{name}</span>)}
</div>;

const Empty = ({ panel }) => <div style={{ padding: 12, ...dim }}>{panel.fieldConfig.defaults.noValue || 'nothing'}</div>;

function Stat({ panel, width, height }) {
  const [frame] = frames(panel);
  const value = frame && reduceField({ field: frame.fields[1], reducers: ['lastNotNull'] }).lastNotNull;
  if (value == null) return <Empty panel={panel} />;
  const config = { ...configOf(panel, ''), color: panel.fieldConfig.defaults.color ?? { mode: 'thresholds' } };
  const field = { ...frame.fields[1], config };
  const shown = getDisplayProcessor({ field, theme, timeZone: 'utc' })(value);
  const sparkline = panel.options.graphMode === 'none' ? undefined : { x: frame.fields[0], y: field };
  return <BigValue theme={theme} width={width} height={height} value={shown} sparkline={sparkline} colorMode={BigValueColorMode.Background} graphMode={BigValueGraphMode.Area} />;
}

function Cells({ panel, width, height }) {
  const { columns, rows } = DATA.tables[panel.id] ?? { columns: [], rows: [] };
  if (!rows.length) return <Empty panel={panel} />;
  const line = { padding: '5px 10px', borderBottom: `1px solid ${theme.colors.border.weak}`, whiteSpace: 'nowrap', overflow: 'hidden', textOverflow: 'ellipsis' };
  const cell = (column, value) => {
    const config = configOf(panel, column);
    if (typeof value !== 'number') return <td key={column} style={{ ...line, maxWidth: 360 }}>{value}</td>;
    const shown = getDisplayProcessor({ field: { type: FieldType.number, config: { ...config, color: { mode: 'thresholds' } } }, theme, timeZone: 'utc' })(value);
    const coloured = config.custom?.cellOptions?.type?.startsWith('color');
    return <td key={column} style={{ ...line, textAlign: 'right', ...(coloured ? { background: shown.color, color: '#fff' } : {}) }}>{shown.prefix}{shown.text}{shown.suffix}</td>;
  };
  return <div style={{ width, height, overflow: 'hidden' }}><table style={{ width: '100%', borderCollapse: 'collapse', fontSize: 13 }}>
    <thead><tr>{columns.map((column, i) => <th key={column} style={{ ...line, ...dim, textAlign: typeof rows[0][i] === 'number' ? 'right' : 'left' }}>{column}</th>)}</tr></thead>
    <tbody>{rows.map((row, i) => <tr key={i}>{row.map((value, j) => cell(columns[j], value))}</tr>)}</tbody>
  </table></div>;
}

const Logs = ({ panel, width, height }) => {
  const lines = DATA.logs[panel.id] ?? [];
  if (!lines.length) return <Empty panel={panel} />;
  const colour = { ERROR: theme.colors.error.text, WARN: theme.colors.warning.text };
  return <div style={{ width, height, overflow: 'hidden', fontFamily: theme.typography.fontFamilyMonospace, fontSize: 12, lineHeight: '21px' }}>
    {lines.map(([at, severity, text], i) => <div key={i} style={{ wordBreak: 'break-all', borderLeft: `3px solid ${colour[severity] ?? theme.colors.success.main}`, paddingLeft: 8 }}><span style={dim}>{at} </span>{text}</div>)}
  </div>;
};

const Traces = ({ panel, width, height }) => {
  const spans = DATA.trace;
  if (!spans.length) return <Empty panel={panel} />;
  const began = Math.min(...spans.map(span => span.start)), length = Math.max(...spans.map(span => span.end)) - began;
  const names = 500, times = 110, bars = width - names - times;
  return <div style={{ width, height, overflow: 'hidden', fontSize: 13 }}>{spans.map((span, i) => <div key={i} style={{ position: 'relative', height: 30, borderBottom: `1px solid ${theme.colors.border.weak}` }}>
    <div style={{ position: 'absolute', left: 10 + 18 * span.depth, top: 5, width: names - 18 * span.depth, whiteSpace: 'nowrap', overflow: 'hidden' }}>{span.failed && <span style={{ color: theme.colors.error.text }}>● </span>}{span.name} <span style={dim}>{span.where}</span></div>
    <div style={{ position: 'absolute', left: names + (span.start - began) / length * bars, top: 8, height: 13, borderRadius: 2, width: Math.max(2, (span.end - span.start) / length * bars), background: span.failed ? theme.visualization.getColorByName('red') : theme.visualization.getColorByName(span.colour) }} />
    <div style={{ position: 'absolute', right: 8, top: 5, ...dim }}>{span.took}</div>
  </div>)}</div>;
};

function Heatmap({ panel, width, height }) {
  const { bounds, times, cells } = DATA.heatmaps[panel.id] ?? { bounds: [] };
  if (!bounds.length) return <Empty panel={panel} />;
  const left = 70, foot = 24, head = 10, w = (width - left) / times.length, h = (height - foot - head) / bounds.length, most = Math.max(...cells.flat());
  return <div style={{ position: 'relative', width, height, fontSize: 12 }}>
    {bounds.map((bound, i) => <div key={bound} style={{ position: 'absolute', left: 4, top: height - foot - (i + 1) * h - 8, ...dim }}>{bound}</div>)}
    {cells.map((row, i) => row.map((count, j) => count > 0 && <div key={`${i} ${j}`} style={{ position: 'absolute', left: left + j * w, top: height - foot - (i + 1) * h + 1, width: Math.max(1, w - 1), height: h - 1, background: `hsl(${260 - 240 * Math.sqrt(count / most)}, 80%, 55%)` }} />))}
    {DATA.marks.filter(({ from }) => from >= times[0]).map(({ color, from }, i) => <div key={`mark ${i}`} style={{ position: 'absolute', top: head, height: height - foot - head, left: left + (from - times[0]) / (times[times.length - 1] - times[0]) * (width - left), borderLeft: `2px dashed ${theme.visualization.getColorByName(color)}` }} />)}
    {times.filter((_, j) => j % Math.ceil(times.length / 5) === 0).map((time, i) => <div key={time} style={{ position: 'absolute', bottom: 2, left: left + i * Math.ceil(times.length / 5) * w, ...dim }}>{new Date(time * 1000).toISOString().slice(11, 19)}</div>)}
  </div>;
}

const Text = ({ panel }) => <div style={{ padding: 12, whiteSpace: 'pre-wrap', fontSize: 13 }}>{panel.options.content.split(/(`[^`]+`)/).map((part, i) => part.startsWith('`') ? <code key={i}>{part.slice(1, -1)}</code> : part)}</div>;

function Content({ panel, width, height }) {
  if (panel.type === 'stat') return <Stat panel={panel} width={width} height={height} />;
  if (panel.type === 'table') return <Cells panel={panel} width={width} height={height} />;
  if (panel.type === 'logs') return <Logs panel={panel} width={width} height={height} />;
  if (panel.type === 'traces') return <Traces panel={panel} width={width} height={height} />;
  if (panel.type === 'heatmap') return <Heatmap panel={panel} width={width} height={height} />;
  if (panel.type === 'text') return <Text panel={panel} />;
  const drawn = frames(panel);
  const { displayMode = 'list', calcs = [] } = panel.options.legend ?? {};
  return drawn.length ? <TimeSeries frames={drawn} timeRange={range} timeZone="utc" width={width} height={height} legend={{ showLegend: true, displayMode, placement: 'bottom', calcs }}>{config => <Marks config={config} />}</TimeSeries> : <Empty panel={panel} />;
}

const height = Math.max(...BOARD.panels.map(({ gridPos }) => gridPos.y + gridPos.h)) * ROW + HEAD + GAP;
createRoot(document.getElementById('root')).render(<ThemeContext.Provider value={theme}><GlobalStyles />
  <div style={{ position: 'relative', width: WIDTH, height, background: theme.colors.background.canvas, color: theme.colors.text.primary, fontFamily: 'sans-serif' }}>
    <div style={{ padding: '14px 12px', fontSize: 20 }}>{BOARD.title}</div>
    <MarkNames />
    {BOARD.panels.map(panel => {
      const { x, y, w, h } = panel.gridPos;
      const place = { position: 'absolute', left: x * COLUMN + GAP / 2, top: y * ROW + HEAD, width: w * COLUMN - GAP, height: h * ROW - GAP };
      if (panel.type === 'row') return <div key={panel.id} style={{ ...place, fontWeight: 600, paddingTop: 6 }}>▾ {panel.title}</div>;
      return <div key={panel.id} style={place}><PanelChrome width={place.width} height={place.height} title={panel.title}>{(width, height) => <Content panel={panel} width={width} height={height} />}</PanelChrome></div>;
    })}
  </div></ThemeContext.Provider>);
