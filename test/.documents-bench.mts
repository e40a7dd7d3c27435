import { Effect, Layer, Context, Scope, Exit } from "effect"
import * as Automerge from "@automerge/automerge"
import { changeActor } from "../src/projections/documents/actor.ts"
import { DocumentWorker } from "../src/projections/documents/pool.ts"
import type { LoggedChange } from "../src/projections/documents/types.ts"
const LOGS=9, DOCS=200, N=Number(process.argv[2]??100000), TICK=Number(process.argv[3]??N)
const logs=[...Array(LOGS)].map((_,i)=>(i+16).toString(16).repeat(32))
let s=1;const rnd=(n:number)=>{s=(Math.imul(s,1103515245)+12345)&0x7fffffff;return s%n}
const validator=new URL("data:text/javascript,export const validate=()=>[]")
// each writer has its own handle per doc; they merge rarely
const made: Array<{doc:string, c:LoggedChange}>=[]
const t0=performance.now()
const next=logs.map(()=>0)
for(let d=0;d<DOCS;d++){
  const doc=`config/mesh/n${d}`
  const hs=logs.map(l=>Automerge.getBackend(Automerge.init({actor:changeActor(l,doc)})))
  for(let i=0;i<N/DOCS;i++){const w=rnd(LOGS);const h=hs[w]!;h.put("/", "key"+rnd(40), JSON.stringify("value "+i),"str");h.commit(undefined,1700000000000+i);made.push({doc,c:{log:logs[w]!,block:next[w]!++,offset:0,ms:1700000000000+i,change:h.getLastLocalChange()!}})
   if(i%100===99){const a=rnd(LOGS),b=rnd(LOGS);if(a!==b)hs[a]!.merge(hs[b]!)}}
  for(const h of hs)h.free()
}
console.log("made in",performance.now()-t0)
const program=Effect.gen(function*(){
  const worker=yield* DocumentWorker
  yield* worker.materialize("config/mesh/x",[])
  const cpu0=process.cpuUsage();const t=performance.now()
  const db=new Map<string,LoggedChange[]>()
  const load=(doc:string)=>({snapshot:undefined,gate:undefined,changes:db.get(doc)??[]})
  // interleave over docs by time: sort by i
  const seq=[...made].sort((a,b)=>a.c.ms-b.c.ms); 
  // block numbers must ascend per log in that order
  const n2=new Map<string,number>(); for(const m of seq){const b=n2.get(m.c.log)??0;n2.set(m.c.log,b+1);(m.c as any).block=b}
  let verd:Record<string,number>={}
  for(let i=0;i<seq.length;i+=TICK){
    const by=new Map<string,LoggedChange[]>()
    for(const {doc,c} of seq.slice(i,i+TICK)){const l=by.get(doc);if(l)l.push(c);else by.set(doc,[c])}
    const r=yield* worker.apply([...by].map(([doc,changes])=>({doc,changes})),load)
    for(const a of r){if("stalled" in a)console.log(a);else for(const v of a.verdicts)verd[v._tag]=(verd[v._tag]??0)+1}
    for(const [doc,l] of by){const x=db.get(doc);if(x)x.push(...l);else db.set(doc,[...l])}
  }
  const ms=performance.now()-t;const cpu=process.cpuUsage(cpu0)
  console.log({changes:seq.length,tick:TICK,wall_us:ms*1000/seq.length,cpu_us:(cpu.user+cpu.system)/seq.length,verd})
  console.log(yield* worker.stats())
  const times:number[]=[];
  for(let i=0;i<100;i++){const t=performance.now();const e=yield* worker.edit("config/mesh/n"+i%5,"ab".repeat(32),[{_tag:"Set",key:"k"+i,json:String(i)}],1,load);times.push(performance.now()-t);
   yield* worker.apply([{doc:"config/mesh/n"+i%5,changes:[{log:"ab".repeat(32),block:i,offset:0,ms:1,change:e.change!}]}],load)}
  times.sort((a,b)=>a-b);console.log("edit ms median",times[50],"p99",times[98])
  const sv=yield* worker.save("config/mesh/n9",load); console.log("save bytes",sv!.snapshot.length,sv!.gate.length)
  yield* worker.discard("config/mesh/n9");let t1=performance.now(); yield* worker.history("config/mesh/n9",()=>({snapshot:sv!.snapshot,gate:sv!.gate,changes:[]}));console.log("load saved",N/DOCS,"changes ms",performance.now()-t1)
  yield* worker.discard("config/mesh/n9"); t1=performance.now(); yield* worker.history("config/mesh/n9",load);console.log("load unsaved ms",performance.now()-t1)
})
await Effect.runPromise(program.pipe(Effect.provide(DocumentWorker.layerWith({validator}))))
console.log("rss MiB",process.memoryUsage().rss/2**20)
