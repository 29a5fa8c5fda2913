export declare const NEEDS: readonly ["docker", "etcd", "busybox", "iptables", "iproute2", "util-linux", "nftables"];
export type Need = (typeof NEEDS)[number];

export interface Program {
  readonly program: string;
  /** Debian packages that bring it; the first that this release has is taken. */
  readonly packages: readonly string[];
}

export declare const FOLDERS: readonly string[];
export declare function missingPrograms(needs: readonly Need[]): readonly Program[];
export declare function isRoot(): boolean;
export declare function isDebian(): boolean;
export declare function refusalToInstall(needs: readonly Need[]): string | null;
export declare function findProgram(program: string): string | null;
