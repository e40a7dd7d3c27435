/** What disks, people and restored backups do to the directory of a node that is not running. Seeded. */
import { cp, mkdir, open, readdir, readFile, rm, stat, truncate, writeFile } from "node:fs/promises"

type Below = (count: number) => number

export interface Damage {
  readonly name: string
  /** The store's bytes may be gone; else only the mark was touched, and everything must still be there. */
  readonly takesBlocks: boolean
  /** Nothing here knows any more how long the log was. */
  readonly forgetful?: true
  /** The machine was restarted since, as it is when its disk was replaced. */
  readonly restarted?: true
  /** `directory` holds `store` and `mark`, `earlier` a copy of both as they once were. */
  run(directory: string, earlier: string, below: Below): Promise<void>
}

const pickFile = async (directory: string, ending: RegExp, below: Below): Promise<string> => {
  const names = (await readdir(directory)).filter((name) => ending.test(name)).sort()
  const name = names[below(names.length)]
  if (name === undefined) throw new Error(`no file like ${ending} in ${directory}`)
  return `${directory}/${name}`
}

/** In place: the file keeps its inode, as it does on a disk that decays. */
const flip = async (path: string, below: Below): Promise<void> => {
  const file = await open(path, "r+")
  try {
    const { size } = await file.stat()
    const at = below(size)
    const byte = Buffer.alloc(1)
    await file.read(byte, 0, 1, at)
    byte[0] = (byte[0] ?? 0) ^ (1 << below(8))
    await file.write(byte, 0, 1, at)
  } finally {
    await file.close()
  }
}

const cut = async (path: string, below: Below): Promise<void> => truncate(path, below((await stat(path)).size))

const onFile = (name: string, ending: RegExp, change: (path: string, below: Below) => Promise<void>): Damage => ({
  name, takesBlocks: true, run: async (directory, _earlier, below) => change(await pickFile(`${directory}/store/db`, ending, below), below)
})

const remove = (path: string): Promise<void> => rm(path)

/** The files' contents as they once were, in directories and files that stay the same: an image of the disk, written back. */
const writeBack = async (from: string, to: string): Promise<void> => {
  for (const name of await readdir(`${to}/store/db`)) await rm(`${to}/store/db/${name}`, { recursive: true })
  await cp(`${from}/store/db`, `${to}/store/db`, { recursive: true })
  const mark = await readFile(`${from}/mark`)
  const file = await open(`${to}/mark`, "r+")
  await file.write(mark, 0, mark.byteLength, 0)
  await file.truncate(mark.byteLength)
  await file.close()
}

export const damages: ReadonlyArray<Damage> = [
  onFile("a byte of the write-ahead file flips", /\.log$/, flip),
  onFile("a table loses its end", /\.sst$/, cut),
  { name: "an older copy of the store is put back", takesBlocks: true, run: async (directory, earlier) => {
    await rm(`${directory}/store`, { recursive: true })
    await cp(`${earlier}/store`, `${directory}/store`, { recursive: true })
  } },
  onFile("a byte of a table flips", /\.sst$/, flip),
  { name: "a byte of the mark flips", takesBlocks: false, run: (directory, _earlier, below) => flip(`${directory}/mark`, below) },
  onFile("the write-ahead file loses its end", /\.log$/, cut),
  { name: "an older image of everything is written back", takesBlocks: true, restarted: true, run: (directory, earlier) => writeBack(earlier, directory) },
  onFile("the manifest is gone", /^MANIFEST/, remove),
  { name: "the mark is gone", takesBlocks: false, run: (directory) => rm(`${directory}/mark`) },
  onFile("the write-ahead file is gone", /\.log$/, remove),
  onFile("a table is gone", /\.sst$/, remove),
  { name: "an older backup of everything is unpacked", takesBlocks: true, run: async (directory, earlier) => {
    await rm(`${directory}/store`, { recursive: true })
    await rm(`${directory}/mark`)
    await cp(`${earlier}/store`, `${directory}/store`, { recursive: true })
    await cp(`${earlier}/mark`, `${directory}/mark`)
  } },
  { name: "the store's note of the newest manifest is gone", takesBlocks: false, run: (directory) => rm(`${directory}/store/db/CURRENT`) },
  onFile("a byte of a value file flips", /\.blob$/, flip),
  onFile("a byte of the manifest flips", /^MANIFEST/, flip),
  { name: "the mark loses its end", takesBlocks: false, run: (directory, _earlier, below) => cut(`${directory}/mark`, below) },
  { name: "the whole store is gone", takesBlocks: true, run: (directory) => rm(`${directory}/store`, { recursive: true }) },
  { name: "the mark against copies in the store is overwritten", takesBlocks: false, run: (directory) => writeFile(`${directory}/store/CORESTORE`, "device/inode=1\n") },
  onFile("the manifest loses its end", /^MANIFEST/, cut),
  { name: "an older copy of the store is put back, and the mark is gone", takesBlocks: true, forgetful: true, run: async (directory, earlier) => {
    await rm(`${directory}/store`, { recursive: true })
    await rm(`${directory}/mark`)
    await cp(`${earlier}/store`, `${directory}/store`, { recursive: true })
  } }
]

/** Keeps store and mark as they are now. */
export const keepCopy = async (directory: string, to: string): Promise<void> => {
  await rm(to, { recursive: true, force: true })
  await mkdir(to)
  await cp(`${directory}/store`, `${to}/store`, { recursive: true })
  await cp(`${directory}/mark`, `${to}/mark`)
}
