import * as Automerge from "@automerge/automerge"
import { Gate } from "../src/projections/documents/gate.ts"
import { bodyOf, honest, newHandle, randomFrom, seal, shuffled } from "./documents-world.ts"
import { LoadedDocument, messageOf } from "../src/projections/documents/document.ts"
let accepted=0,refused=0,bad=0; const whys=new Map<string,number>()
const [from,to]=[Number(process.argv[2]),Number(process.argv[3])]
for(let seed=from;seed<to;seed++){
  const r=randomFrom(seed)
  const doc=seed%2?"memory/a/b":"config/mesh/x"
  const {changes}=honest(doc,3,12,r)
  // honest all applied?
  {const d=new LoadedDocument(doc); d.gate.begin(); for(const c of shuffled(changes,r))d.gate.offer(c); const v=d.gate.verdicts(); for(const x of v)if(x._tag==="Refused"){console.log("HONEST REFUSED",seed,x.why);bad++}
   if(d.gate.memory.waitingChanges)console.log("waiting",seed);d.settle();const st=d.state(()=>[]);const l=Automerge.getBackend(Automerge.load(d.save()));if(l.getHeads().sort().join()!==st.heads.join()){console.log("HEADS",seed);bad++};d.free();l.free()}
  for(let k=0;k<40;k++){
    const i=r(changes.length); const victim=changes[i]!
    const body=new Uint8Array(bodyOf(victim.change)); 
    const m=1+r(2); let out=[...body]
    // mutate only after header mostly
    for(let j=0;j<m;j++){const p=r(4)===0?r(out.length):Math.max(0,out.length-1-r(Math.min(out.length,60)));const w=r(4);if(w===0)out[p]=r(256);else if(w===1)out[p]=(out[p]!+[1,255,2,254][r(4)]!)&255;else if(w===2)out.splice(p,1);else out.splice(p,0,out[r(out.length)]!)}
    const chunk=seal(new Uint8Array(out))
    const d=new LoadedDocument(doc);d.gate.begin()
    for(let q=0;q<i;q++)d.gate.offer(changes[q]!)
    d.gate.offer({...victim,change:chunk})
    const v=d.gate.verdicts().at(-1)!
    if(v._tag==="Applied"){accepted++
      try{d.settle();const st=d.state(()=>[]);const l=Automerge.getBackend(Automerge.load(d.save()));if(l.getHeads().sort().join()!==st.heads.join()){console.log("HEADS",seed,k);bad++};l.free();d.free()}catch(e){bad++;if(bad<20){console.log("BAD",seed,k,messageOf(e),JSON.stringify(Automerge.decodeChange(victim.change).ops).slice(0,300));try{console.log("   ->",JSON.stringify(Automerge.decodeChange(chunk)).slice(0,600))}catch(e){console.log("   decode:",messageOf(e))}}}
    } else {refused++;const w=v._tag==="Refused"?v.why.replace(/\d+/g,"N"):v._tag;whys.set(w,(whys.get(w)??0)+1);d.free()}
  }
}
console.log({accepted,refused,bad},[...whys].sort((a,b)=>b[1]-a[1]))
