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
    const dec:any=Automerge.decodeChange(victim.change)
    const pool:string[]=[];const keys=["alpha","beta","inner","new"];for(const c of changes.slice(0,i+1)){const q:any=Automerge.decodeChange(c.change);q.ops.forEach((_:any,n:number)=>pool.push((q.startOp+n)+"@"+q.actor))}
    const pick=()=>pool.length&&r(8)?pool[r(pool.length)]!:(1+r(40))+"@"+["00".repeat(16),dec.actor,"ee".repeat(16)][r(3)]
    for(let n=1+r(3);n>0;n--){const op=dec.ops[r(dec.ops.length)];if(!op)break
      switch(r(11)){case 0:op.obj=r(3)?pick():"_root";break;case 1:delete op.elemId;op.key=keys[r(4)];break;case 2:delete op.key;op.elemId=r(3)?pick():"_head";break
      case 3:op.pred=[pick()];break;case 4:op.pred=[...op.pred,pick()];break;case 5:op.pred=[];break;case 6:op.insert=!op.insert;break;case 7:op.action=["set","del","makeMap","makeList","makeText","inc"][r(6)];if(op.action!=="set"&&op.action!=="inc"){delete op.value;delete op.datatype}else op.value=op.value??"1";break
      case 8:op.value=["x",5,null,true,1.5][r(5)];delete op.datatype;break;case 9:{const p=pick();delete op.key;op.elemId=p;op.pred=[p];op.action="del";op.insert=false;delete op.value;break}
      case 10:dec.ops.splice(r(dec.ops.length+1),0,structuredClone(dec.ops[r(dec.ops.length)]));break}}
    let chunk:Uint8Array;try{delete dec.hash;chunk=Automerge.encodeChange(dec)}catch{continue}
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
