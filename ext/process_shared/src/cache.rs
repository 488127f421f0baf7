//! `ProcessShared::Cache`: a `Map` that drops entries when there is no more room. What it is, its data says.

use magnus::{RClass, RModule, Ruby, prelude::*};

use crate::errors::Error;
use crate::map::{self, MapData};
use crate::object;

pub fn init(_: &Ruby, module: RModule) -> Result<(), Error> {
    let superclass: RClass = module.const_get("Map")?;
    let class = object::define_class::<MapData>(module, "Cache", superclass)?;
    map::init_cache(class)
}
