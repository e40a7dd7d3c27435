/** Asking a person at a terminal for a secret, without showing it. */
import { Refusal } from "../commands/refusal.ts"

/** Characters of one answer at most; what is typed beyond is not taken. */
const answerMax = 4_096
/** A signal that this process sends to itself has come by then, milliseconds. */
const signalMsMax = 50

/** Resolves with the line; rejects when the person gives up (Ctrl-C, Ctrl-D). */
export const askHidden = (prompt: string): Promise<string> => new Promise((done, fail) => {
  const { stdin, stderr } = process
  let typed = ""
  // First, so that nothing that is typed as soon as the prompt appears is shown.
  stdin.setRawMode(true)
  stdin.setEncoding("utf8")
  stderr.write(prompt)
  const end = (finish: () => void) => {
    stdin.off("data", take)
    stdin.setRawMode(false)
    stdin.pause()
    stderr.write("\n")
    finish()
  }
  const giveUp = () => fail(new Refusal({ kind: "failed", detail: "nothing was given; nothing was done" }))
  const take = (text: string) => {
    for (const character of text) {
      if (character === "\r" || character === "\n") return end(() => done(typed))
      if (character === "\u0004" && typed === "") return end(giveUp)
      if (character === "\u0003") {
        // In raw mode the terminal makes no signal of it; whoever stops this program by one hears of it first.
        return end(() => {
          process.kill(process.pid, "SIGINT")
          setTimeout(giveUp, signalMsMax)
        })
      }
      if (character === "\u007f" || character === "\b") typed = [...typed].slice(0, -1).join("")
      else if (character === "\u0015") typed = ""
      else if (character >= " " && typed.length < answerMax) typed += character
    }
  }
  stdin.on("data", take)
  stdin.resume()
})
