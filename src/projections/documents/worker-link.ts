/**
 * One worker thread and the deadline of each request. A request ends with the reply, or with `Dead` when the thread ended or kept still for
 * too long; then it is killed, and the next request starts a new one. Only one request is under way at a time (the pool sees to it).
 *
 * Tricky: a busy main thread fires its timers late and in a row, so when the deadline passes the port is read once more before anyone is killed.
 */
import { MessageChannel, type MessagePort, receiveMessageOnPort, Worker } from "node:worker_threads"
import { progressBeat, progressChange, progressPart, type Reply, type Request } from "./messages.ts"

export interface Dead {
  readonly _tag: "Dead"
  readonly why: string
  /** Where the thread was: part of the request, change of the part (-1 outside changes). */
  readonly part: number
  readonly change: number
}

/** Heap of the thread, MiB; WebAssembly memory is beside it. */
const oldHeapMibMax = 512
/** Room for what a request makes and drops: with the default, collecting it takes an eighth of the time. */
const youngHeapMibMax = 48
const startMsMax = 30_000

interface Thread {
  readonly worker: Worker
  readonly port: MessagePort
  readonly progress: Int32Array
  ended: string | undefined
  settle: ((outcome: Reply | Dead) => void) | undefined
}

export class WorkerLink {
  readonly #validator: string
  #thread: Thread | undefined
  #starting: Promise<Thread | Dead> | undefined
  #nextId = 1
  /** Threads started so far. */
  starts = 0

  constructor(validator: URL) {
    this.#validator = validator.href
  }

  get running(): boolean {
    return this.#thread !== undefined && this.#thread.ended === undefined
  }

  async call(make: (id: number) => Request, deadlineMs: number): Promise<Reply | Dead> {
    const thread = await this.#open()
    if ("_tag" in thread) return thread
    const id = this.#nextId++
    const request = make(id)
    Atomics.store(thread.progress, progressPart, 0)
    Atomics.store(thread.progress, progressChange, -1)
    const outcome = this.#wait(thread, deadlineMs)
    thread.port.postMessage(request, "packed" in request ? [request.packed.buffer] : [])
    const reply = await outcome
    if (reply._tag === "Dead") await this.kill()
    return reply
  }

  async kill(): Promise<void> {
    const thread = this.#thread
    this.#thread = undefined
    this.#starting = undefined
    if (thread === undefined) return
    thread.port.close()
    await thread.worker.terminate()
  }

  #open(): Promise<Thread | Dead> {
    if (this.#thread?.ended !== undefined) {
      this.#thread = undefined
      this.#starting = undefined
    }
    return (this.#starting ??= this.#start())
  }

  async #start(): Promise<Thread | Dead> {
    const { port1, port2 } = new MessageChannel()
    const shared = new SharedArrayBuffer(16)
    const worker = new Worker(new URL("./worker.ts", import.meta.url), {
      workerData: { port: port2, progress: shared, validator: this.#validator },
      transferList: [port2],
      resourceLimits: { maxOldGenerationSizeMb: oldHeapMibMax, maxYoungGenerationSizeMb: youngHeapMibMax },
      name: "kos-documents"
    })
    const thread: Thread = { worker, port: port1, progress: new Int32Array(shared), ended: undefined, settle: undefined }
    this.starts++
    const end = (why: string): void => {
      thread.ended ??= why
      thread.settle?.(this.#dead(thread, thread.ended))
    }
    worker.on("error", (cause) => end(`the worker failed: ${cause instanceof Error ? cause.message.slice(0, 200) : "unknown"}`))
    worker.on("exit", () => end("the worker ended"))
    port1.on("message", (reply: Reply) => thread.settle?.(reply))
    const ready = await this.#wait(thread, startMsMax)
    port1.unref()
    worker.unref()
    if (ready._tag === "Dead") {
      this.#starting = undefined
      await worker.terminate()
      return ready
    }
    this.#thread = thread
    return thread
  }

  #wait(thread: Thread, deadlineMs: number): Promise<Reply | Dead> {
    return new Promise((resolve) => {
      let beat = Atomics.load(thread.progress, progressBeat)
      const finish = (outcome: Reply | Dead): void => {
        clearTimeout(timer)
        thread.settle = undefined
        resolve(outcome)
      }
      const late = (): void => {
        const reply: { readonly message: Reply } | undefined = receiveMessageOnPort(thread.port)
        if (reply !== undefined) return finish(reply.message)
        const now = Atomics.load(thread.progress, progressBeat)
        if (now === beat) return finish(this.#dead(thread, `no answer in ${Math.round(deadlineMs)} ms`))
        beat = now
        timer = setTimeout(late, deadlineMs)
      }
      let timer = setTimeout(late, deadlineMs)
      thread.settle = finish
      if (thread.ended !== undefined) finish(this.#dead(thread, thread.ended))
    })
  }

  #dead(thread: Thread, why: string): Dead {
    return { _tag: "Dead", why, part: Atomics.load(thread.progress, progressPart), change: Atomics.load(thread.progress, progressChange) }
  }
}
