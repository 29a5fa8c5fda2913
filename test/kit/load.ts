// Continuous load from inside a lab host, as quickstart makes it too.
export { type Load, type LoadResult, startLoad } from "../../packaging/lab/load/mod.js";
