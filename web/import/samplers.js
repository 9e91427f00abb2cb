/** What other programs call samplers and schedules, in the names of the core nodes. */

/** @type {Record<string, string>} by letters and digits of the name, in small letters */
const SAMPLERS = {
  euler: "euler",
  eulera: "euler_ancestral",
  eulerancestral: "euler_ancestral",
  lms: "lms",
  plms: "pndm",
  pndm: "pndm",
  heun: "heun",
  heunpp2: "heunpp2",
  dpm2: "dpm_2",
  kdpm2: "dpm_2",
  dpm2a: "dpm_2_ancestral",
  kdpm2a: "dpm_2_ancestral",
  dpm2ancestral: "dpm_2_ancestral",
  dpmfast: "dpm_fast",
  dpmadaptive: "dpm_adaptive",
  "dpm++2sa": "dpmpp_2s_ancestral",
  "dpm++2s": "dpmpp_2s_ancestral",
  "dpm++2sancestral": "dpmpp_2s_ancestral",
  "dpm++sde": "dpmpp_sde",
  "dpm++2m": "dpmpp_2m",
  "dpm++": "dpmpp_2m",
  "dpm++2msde": "dpmpp_2m_sde",
  "dpm++2msdeheun": "dpmpp_2m_sde_heun",
  "dpm++3msde": "dpmpp_3m_sde",
  dpmsde: "dpmpp_sde",
  ddim: "ddim",
  ddimcfg: "ddim",
  ddpm: "ddpm",
  unipc: "uni_pc",
  lcm: "lcm",
  deis: "deis",
  ersde: "er_sde",
  sasolver: "sa_solver",
  tcd: "lcm",
  ipndm: "ipndm",
  ipndmv: "ipndm_v",
  resmultistep: "res_multistep",
};

/** @type {Record<string, string>} */
const SCHEDULES = {
  automatic: "",
  default: "",
  normal: "normal",
  uniform: "normal",
  karras: "karras",
  exponential: "exponential",
  polyexponential: "exponential",
  sgmuniform: "sgm_uniform",
  simple: "simple",
  ddim: "ddim_uniform",
  ddimuniform: "ddim_uniform",
  beta: "beta",
  kloptimal: "kl_optimal",
  linearquadratic: "linear_quadratic",
  linear: "normal",
};

const AT_END = /\s*(karras|exponential|polyexponential|sgm uniform)$/i;

/**
 * @param {string} sampler
 * @param {string} schedule
 * @param {{samplers: readonly string[], schedules: readonly string[]}} known to the sampler node
 * @returns {{sampler: string, schedule: string, notes: string[]}}
 */
export function translateSampler(sampler, schedule, known) {
  const notes = [];
  const tail = AT_END.exec(sampler)?.[1] ?? "";
  const name = sampler.replace(AT_END, "");
  let own = known.samplers.includes(sampler) ? sampler : SAMPLERS[letters(name)];
  if (!own || !known.samplers.includes(own)) {
    if (sampler)
      notes.push(`The sampler '${sampler}' has no counterpart here; 'euler' stands in its place.`);
    own = "euler";
  }
  let plan = known.schedules.includes(schedule) ? schedule : SCHEDULES[letters(schedule || tail)];
  if (plan === undefined && schedule) {
    notes.push(`The schedule '${schedule}' has no counterpart here; 'normal' stands in its place.`);
  }
  plan ||= automatic(own);
  return { sampler: own, schedule: known.schedules.includes(plan) ? plan : "normal", notes };
}

/** What 'Automatic' means: these samplers come with Karras's schedule. @param {string} sampler */
const automatic = (sampler) => (/^dpmpp_/.test(sampler) ? "karras" : "normal");

/** @param {string} name */
const letters = (name) =>
  name
    .toLowerCase()
    .replace(/^k_/, "")
    .replace(/dpmpp|dpm_\+\+/, "dpm++")
    .replace(/[^a-z0-9+]/g, "");
