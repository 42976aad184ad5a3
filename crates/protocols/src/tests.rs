mod adapt;
mod checker;
mod events;
mod fold;
mod order;
mod patch;
mod random;
